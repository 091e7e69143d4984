package org.futoin.eventstream;

import java.util.List;

/** What a receiver does for each group of events, as the service sends them. */
@FunctionalInterface
public interface GroupHandler {
    /**
     * Handles a group as a whole: returning acknowledges all of it, failing none.
     *
     * @param events in order, never empty
     * @throws Exception what the receiver's {@link FailurePolicy} then decides about, for the whole group
     */
    void handle(List<Event> events) throws Exception;
}
