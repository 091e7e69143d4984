package org.futoin.eventstream;

/** What a receiver does for each event. */
@FunctionalInterface
public interface EventHandler {
    /**
     * Handles one event. It may block. Returning acknowledges the event; an event may come again after a crash or a
     * lost connection, so handling it twice must do no harm.
     *
     * @param event what happened
     * @throws Exception what the receiver's {@link FailurePolicy} then decides about
     */
    void handle(Event event) throws Exception;
}
