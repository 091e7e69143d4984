/**
 * Client of FutoIn EventStream: reliable consumers, and events in your own transactions.
 *
 * <p>{@link org.futoin.eventstream.EventStream} is the connection to the service,
 * {@link org.futoin.eventstream.ReliableReceiver} gets every event of a component in order,
 * {@link org.futoin.eventstream.Events} inserts an event in the transaction of a JDBC connection without any service.
 * Everything here may be used by several threads at once, builders excepted.
 */
package org.futoin.eventstream;
