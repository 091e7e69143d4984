package org.futoin.eventstream;

import java.sql.Connection;
import java.sql.SQLException;

/**
 * The table of events, to insert into in a transaction of one's own. It begins and commits nothing, gives no id, and
 * fails as the driver fails. {@link Events} is the one with the usual name.
 */
public final class EventTable {
    private final String name;
    private final Engine engine;

    private EventTable(String name, Engine engine) {
        this.name = Rules.table(name);
        this.engine = engine;
    }

    /**
     * A table with another name than {@code evt_queue}.
     *
     * @param name letters, digits, {@code _}, and at most one {@code .} after the schema
     * @return the table; its engine is asked from each connection
     * @throws InvalidEventException when the name breaks the rule
     */
    public static EventTable named(String name) {
        return new EventTable(name, null);
    }

    /**
     * Names the engine, for connections whose metadata does not.
     *
     * @param engine where the table is
     * @return a new table
     */
    public EventTable engine(Engine engine) {
        return new EventTable(name, engine);
    }

    /**
     * Inserts an event whose data is a value; see {@link NewEvent#of}.
     *
     * @param connection of the caller's transaction
     * @param type {@code ^[A-Z_]{1,16}$}
     * @param data anything that Jackson can write
     * @throws SQLException as the driver fails
     * @throws InvalidEventException before anything is inserted
     */
    public void addEvent(Connection connection, String type, Object data) throws SQLException {
        addEvent(connection, NewEvent.of(type, data));
    }

    /**
     * Inserts an event whose data is ready JSON text; see {@link NewEvent#ofJson}.
     *
     * @param connection of the caller's transaction
     * @param type {@code ^[A-Z_]{1,16}$}
     * @param json one well-formed JSON value, stored as given
     * @throws SQLException as the driver fails
     * @throws InvalidEventException before anything is inserted
     */
    public void addEventJson(Connection connection, String type, String json) throws SQLException {
        addEvent(connection, NewEvent.ofJson(type, json));
    }

    /**
     * Inserts an event.
     *
     * @param connection of the caller's transaction
     * @param event what happened
     * @throws SQLException as the driver fails
     */
    public void addEvent(Connection connection, NewEvent event) throws SQLException {
        var dialect = engine == null ? Engine.of(connection) : engine;
        var sql = "INSERT INTO " + name + " (type, data, ts) VALUES (?, ?, " + dialect.utcNow + ")";
        try (var insert = connection.prepareStatement(sql)) {
            insert.setString(1, event.type());
            insert.setObject(2, event.dataJson(), dialect.dataType);
            insert.executeUpdate();
        }
    }
}
