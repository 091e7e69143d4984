package org.futoin.eventstream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import javax.sql.DataSource;
import org.futoin.eventstream.spring.SpringEvents;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.dao.DataAccessException;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.DataSourceTransactionManager;
import org.springframework.jdbc.datasource.DriverManagerDataSource;
import org.springframework.transaction.IllegalTransactionStateException;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.annotation.EnableTransactionManagement;
import org.springframework.transaction.annotation.Transactional;

/** Events in transactions that Spring begins and ends. */
class SpringTest {
    private static final String TYPE = "J_SPRING";

    @Configuration
    @EnableTransactionManagement(proxyTargetClass = true)
    static class Application {
        @Bean
        PlatformTransactionManager transactions(DataSource source) {
            return new DataSourceTransactionManager(source);
        }

        @Bean
        SpringEvents events(DataSource source) {
            return new SpringEvents(source);
        }

        @Bean
        Orders orders(DataSource source, SpringEvents events) {
            return new Orders(new JdbcTemplate(source), events, new SpringEvents(source, EventTable.named("no_such")));
        }
    }

    static class Orders {
        private final JdbcTemplate jdbc;
        private final SpringEvents events;
        private final SpringEvents misnamed;

        Orders(JdbcTemplate jdbc, SpringEvents events, SpringEvents misnamed) {
            this.jdbc = jdbc;
            this.events = events;
            this.misnamed = misnamed;
        }

        @Transactional
        public void place(String item) {
            insert(item);
        }

        @Transactional
        public void placeAndFail(String item) {
            insert(item);
            throw new IllegalStateException("after both inserts");
        }

        @Transactional
        public void placeIntoNoTable() {
            misnamed.addEvent(TYPE, "nowhere");
        }

        public void placeWithoutTransaction(String item) {
            insert(item);
        }

        private void insert(String item) {
            jdbc.update("INSERT INTO java_orders_spring (item) VALUES (?)", item);
            events.addEventJson(TYPE, item);
        }
    }

    @ParameterizedTest
    @CsvSource({"SQLITE, sqlite", "POSTGRES, postgresql", "MYSQL, mariadb"})
    void anEventSharesTheFateOfItsTransaction(String engine, String driver) throws Exception {
        var inbox = new Services.Inbox();
        try (var context = new AnnotationConfigApplicationContext();
                var stream = Services.connect(engine)) {
            var source = new DriverManagerDataSource(Services.jdbc(engine, driver));
            context.registerBean(DataSource.class, () -> source);
            context.register(Application.class);
            context.refresh();
            var jdbc = new JdbcTemplate(source);
            jdbc.execute("CREATE TABLE java_orders_spring (item VARCHAR(500))");
            stream.admin().register("J_spring", Start.now());

            var orders = context.getBean(Orders.class);
            assertThrows(IllegalStateException.class, () -> orders.placeAndFail("1"));
            assertThrows(DataAccessException.class, orders::placeIntoNoTable);
            orders.place("{\"n\": 9007199254740993, \"text\": \"😀\"}");
            try (var receiver = stream.receiver("J_spring").want(TYPE).handle(inbox)) {
                assertEquals(
                        "{\"n\": 9007199254740993, \"text\": \"😀\"}",
                        inbox.take().dataJson());
            }
            assertTrue(inbox.isEmpty());
            assertEquals(1, jdbc.queryForObject("SELECT count(*) FROM java_orders_spring", Long.class));
            assertThrows(IllegalTransactionStateException.class, () -> orders.placeWithoutTransaction("2"));
        }
    }
}
