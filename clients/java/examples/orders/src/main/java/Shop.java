import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.UUID;
import org.futoin.eventstream.Events;

/** Takes orders: {@code Shop JDBC_URL ITEM...}. An order and its event are one transaction. */
public final class Shop {
    /** What the event tells. */
    public record Order(String order, String item) {}

    private Shop() {}

    /** The first argument is the JDBC URL of the service's database. */
    public static void main(String[] args) throws SQLException {
        try (Connection database = DriverManager.getConnection(args[0])) {
            try (var statement = database.createStatement()) {
                statement.execute(
                        "CREATE TABLE IF NOT EXISTS java_orders (id VARCHAR(36) PRIMARY KEY, item VARCHAR(100))");
            }
            database.setAutoCommit(false);
            for (int i = 1; i < args.length; i++) {
                order(database, args[i]);
            }
        }
    }

    private static void order(Connection database, String item) throws SQLException {
        Order order = new Order(UUID.randomUUID().toString(), item);
        try (var insert = database.prepareStatement("INSERT INTO java_orders (id, item) VALUES (?, ?)")) {
            insert.setString(1, order.order());
            insert.setString(2, order.item());
            insert.executeUpdate();
            Events.addEvent(database, "JAVA_ORDER", order);
            if (item.equals("nothing")) {
                throw new IllegalArgumentException("nothing cannot be ordered");
            }
            database.commit();
            System.out.println("ordered " + item);
        } catch (IllegalArgumentException e) {
            database.rollback();
            System.out.println("refused " + item + ": " + e.getMessage());
        }
    }
}
