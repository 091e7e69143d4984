package org.futoin.eventstream;

import java.sql.Connection;
import java.sql.SQLException;
import java.util.Locale;

/** The databases that hold the event table. */
public enum Engine {
    /** SQLite. */
    SQLITE("CURRENT_TIMESTAMP"),
    /** PostgreSQL. */
    POSTGRES("CURRENT_TIMESTAMP AT TIME ZONE 'UTC'"),
    /** MySQL and MariaDB. */
    MYSQL("UTC_TIMESTAMP()");

    /** The time in UTC: {@code CURRENT_TIMESTAMP} is that of the session but in SQLite. */
    final String utcNow;

    Engine(String utcNow) {
        this.utcNow = utcNow;
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
