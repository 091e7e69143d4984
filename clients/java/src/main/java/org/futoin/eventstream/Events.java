package org.futoin.eventstream;

import java.sql.Connection;
import java.sql.SQLException;

/**
 * Events in the caller's own transaction, in the table {@code evt_queue}: delivered when the transaction commits, and
 * only then. No service is involved. With Spring use {@link org.futoin.eventstream.spring.SpringEvents}.
 */
public final class Events {
    private static final EventTable EVT_QUEUE = EventTable.named("evt_queue");

    private Events() {}

    /**
     * Inserts an event whose data is a value; see {@link NewEvent#of}.
     *
     * @param connection of the caller's transaction
     * @param type {@code ^[A-Z_]{1,16}$}
     * @param data anything that Jackson can write
     * @throws SQLException as the driver fails
     * @throws InvalidEventException before anything is inserted
     */
    public static void addEvent(Connection connection, String type, Object data) throws SQLException {
        EVT_QUEUE.addEvent(connection, type, data);
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
    public static void addEventJson(Connection connection, String type, String json) throws SQLException {
        EVT_QUEUE.addEventJson(connection, type, json);
    }
}
