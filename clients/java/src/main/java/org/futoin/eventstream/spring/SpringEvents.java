package org.futoin.eventstream.spring;

import java.sql.Connection;
import javax.sql.DataSource;
import org.futoin.eventstream.EventTable;
import org.futoin.eventstream.InvalidEventException;
import org.futoin.eventstream.NewEvent;
import org.springframework.dao.DataAccessException;
import org.springframework.jdbc.core.ConnectionCallback;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.DataSourceUtils;
import org.springframework.transaction.IllegalTransactionStateException;

/**
 * Events in the transaction that Spring has open on a data source: that of {@code @Transactional}, of a
 * {@code TransactionTemplate}, of JPA on the same data source.
 *
 * <p>Without a transaction an event would be committed on its own, whatever becomes of the data it tells of. That is
 * always a mistake (a call within the same bean, a missing annotation), and refused.
 */
public final class SpringEvents {
    private final JdbcTemplate jdbc;
    private final DataSource source;
    private final EventTable table;

    /**
     * Events in the table {@code evt_queue}.
     *
     * @param source that of the transactions
     */
    public SpringEvents(DataSource source) {
        this(source, EventTable.named("evt_queue"));
    }

    /**
     * Events in a table of another name.
     *
     * @param source that of the transactions
     * @param table the table
     */
    public SpringEvents(DataSource source, EventTable table) {
        this.source = source;
        this.table = table;
        this.jdbc = new JdbcTemplate(source);
    }

    /**
     * Inserts an event whose data is a value; see {@link NewEvent#of}.
     *
     * @param type {@code ^[A-Z_]{1,16}$}
     * @param data anything that Jackson can write
     * @throws InvalidEventException before anything is inserted
     * @throws IllegalTransactionStateException when no transaction is open on the data source
     * @throws DataAccessException as the driver fails
     */
    public void addEvent(String type, Object data) {
        insert(NewEvent.of(type, data));
    }

    /**
     * Inserts an event whose data is ready JSON text; see {@link NewEvent#ofJson}.
     *
     * @param type {@code ^[A-Z_]{1,16}$}
     * @param json one well-formed JSON value, stored as given
     * @throws InvalidEventException before anything is inserted
     * @throws IllegalTransactionStateException when no transaction is open on the data source
     * @throws DataAccessException as the driver fails
     */
    public void addEventJson(String type, String json) {
        insert(NewEvent.ofJson(type, json));
    }

    private void insert(NewEvent event) {
        jdbc.execute((ConnectionCallback<Void>) connection -> {
            requireTransaction(connection);
            table.addEvent(connection, event);
            return null;
        });
    }

    private void requireTransaction(Connection connection) {
        var target = DataSourceUtils.getTargetConnection(connection);
        if (!DataSourceUtils.isConnectionTransactional(target, source)) {
            throw new IllegalTransactionStateException("no transaction is open on this data source: "
                    + "an event must be committed together with the data it tells of");
        }
    }
}
