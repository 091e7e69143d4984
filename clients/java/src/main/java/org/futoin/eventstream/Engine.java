package org.futoin.eventstream;

import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Types;
import java.util.Locale;

/** The databases that hold the event table. */
public enum Engine {
    /** SQLite. */
    SQLITE("CURRENT_TIMESTAMP", Types.VARCHAR),
    /** PostgreSQL. */
    POSTGRES("CURRENT_TIMESTAMP AT TIME ZONE 'UTC'", Types.OTHER),
    /** MySQL and MariaDB. */
    MYSQL("UTC_TIMESTAMP()", Types.VARCHAR);

    /** The time in UTC: {@code CURRENT_TIMESTAMP} is that of the session but in SQLite. */
    final String utcNow;

    /** What the data is bound as: PostgreSQL's column is {@code json} or {@code text}, and only it knows which. */
    final int dataType;

    Engine(String utcNow, int dataType) {
        this.utcNow = utcNow;
        this.dataType = dataType;
    }

    /**
     * Which engine a connection leads to, by its metadata.
     *
     * @param connection open
     * @return the engine
     * @throws SQLException when the driver fails
     * @throws IllegalArgumentException when it is none of these: name it by {@link EventTable#engine}
     */
    public static Engine of(Connection connection) throws SQLException {
        var product = connection.getMetaData().getDatabaseProductName();
        return switch (product.toLowerCase(Locale.ROOT)) {
            case "sqlite" -> SQLITE;
            case "postgresql" -> POSTGRES;
            case "mysql", "mariadb" -> MYSQL;
            default -> throw new IllegalArgumentException("no event table can be in " + product);
        };
    }
}
