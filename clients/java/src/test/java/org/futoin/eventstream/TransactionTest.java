package org.futoin.eventstream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Events in transactions of every driver, delivered by the service of that database. */
class TransactionTest {
    private static final String TYPE = "J_JDBC";
    private static final String DATA =
            "{\"n\": 9007199254740993, \"text\": \"😀 'single' \\\"double\\\" \\\\ back `tick` ?\", \"price\": 1.10}";

    @ParameterizedTest
    @CsvSource({"SQLITE, sqlite", "POSTGRES, postgresql", "MYSQL, mariadb", "MYSQL, mysql"})
    void whatIsCommittedArrivesAndWhatIsRolledBackDoesNot(String engine, String driver) throws Exception {
        var component = "J_" + driver;
        var inbox = new Services.Inbox();
        try (var stream = Services.connect(engine);
                var database = DriverManager.getConnection(Services.jdbc(engine, driver))) {
            var orders = createOrders(database, driver);
            stream.admin().register(component, Start.now());
            database.setAutoCommit(false);
            order(database, orders, "rolled back");
            database.rollback();
            order(database, orders, DATA);
            database.commit();
            try (var receiver = stream.receiver(component).want(TYPE).handle(inbox)) {
                var event = inbox.take();
                assertEquals(DATA, event.dataJson());
                assertEquals(9007199254740993L, event.data().get("n").longValue());
                assertEquals(List.of(DATA), items(database, orders));
            }
            assertEquals(true, inbox.isEmpty());
        }
    }

    @ParameterizedTest
    @CsvSource({"SQLITE, sqlite", "POSTGRES, postgresql", "MYSQL, mariadb", "MYSQL, mysql"})
    void whatBreaksARuleIsRefusedBeforeTheInsert(String engine, String driver) throws Exception {
        try (var database = DriverManager.getConnection(Services.jdbc(engine, driver))) {
            database.setAutoCommit(false);
            long before = count(database, "evt_queue WHERE type = 'J_REFUSED'");
            assertRefused("type", "^[A-Z_]{1,16}$", () -> Events.addEvent(database, "Lower", 1));
            assertRefused("data", "well-formed", () -> Events.addEventJson(database, "J_REFUSED", "{\"n\": 1"));
            assertRefused("data", "8 MiB", () -> Events.addEvent(database, "J_REFUSED", "x".repeat(8 << 20)));
            assertRefused("data", "surrogate", () -> Events.addEventJson(database, "J_REFUSED", "\"\ud83d\""));
            assertRefused("table", "letters", () -> EventTable.named("evt_queue; DROP TABLE orders"));
            assertEquals(before, count(database, "evt_queue WHERE type = 'J_REFUSED'"));
            database.rollback();
        }
    }

    @ParameterizedTest
    @CsvSource({"SQLITE, sqlite, main", "POSTGRES, postgresql, public", "MYSQL, mariadb, shop"})
    void theTableAndTheEngineMayBeNamed(String engine, String driver, String schema) throws Exception {
        try (var database = DriverManager.getConnection(Services.jdbc(engine, driver))) {
            database.setAutoCommit(false);
            EventTable.named(schema + ".evt_queue")
                    .engine(Engine.valueOf(engine))
                    .addEvent(database, "J_NAMED", 1);
            assertEquals(1, count(database, "evt_queue WHERE type = 'J_NAMED'"));
            database.rollback();
            assertThrows(SQLException.class, () -> EventTable.named("no_such").addEvent(database, "J_NAMED", 1));
            database.rollback();
        }
    }

    private static void order(Connection database, String orders, String data) throws SQLException {
        try (var insert = database.prepareStatement("INSERT INTO " + orders + " (item) VALUES (?)")) {
            insert.setString(1, data);
            insert.executeUpdate();
        }
        if (data.equals(DATA)) {
            Events.addEventJson(database, TYPE, data);
        } else {
            Events.addEvent(database, TYPE, data);
        }
    }

    private static String createOrders(Connection database, String driver) throws SQLException {
        var orders = "java_orders_" + driver;
        try (var statement = database.createStatement()) {
            statement.execute("CREATE TABLE " + orders + " (item VARCHAR(500))");
        }
        return orders;
    }

    private static List<String> items(Connection database, String orders) throws SQLException {
        try (var rows = database.createStatement().executeQuery("SELECT item FROM " + orders)) {
            var items = new java.util.ArrayList<String>();
            while (rows.next()) {
                items.add(rows.getString(1));
            }
            return items;
        }
    }

    private static long count(Connection database, String from) throws SQLException {
        try (var rows = database.createStatement().executeQuery("SELECT count(*) FROM " + from)) {
            rows.next();
            return rows.getLong(1);
        }
    }

    private static void assertRefused(String field, String rule, org.junit.jupiter.api.function.Executable call) {
        var error = assertThrows(InvalidEventException.class, call);
        assertEquals(field, error.field());
        assertEquals(true, error.rule().contains(rule), error.rule());
    }
}
