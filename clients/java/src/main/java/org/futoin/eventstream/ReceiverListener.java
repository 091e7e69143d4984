package org.futoin.eventstream;

import java.time.Duration;

/** Hooks of a receiver, for metrics and tests. They must not block; what they throw is logged. */
public interface ReceiverListener {
    /**
     * A session began.
     *
     * @param epoch its fencing number; 0 of live ones
     * @param startAfterId delivery starts after this event
     */
    default void onStarted(long epoch, long startAfterId) {}

    /**
     * A session was lost, or could not be opened; the next try follows.
     *
     * @param attempt tries since the last session that brought events, from 1
     * @param delay how long the receiver waits first
     * @param error why; a {@link ServiceException} unless this side ended it
     */
    default void onReconnect(int attempt, Duration delay, EventStreamException error) {}

    /**
     * A live receiver was too slow, and events were dropped.
     *
     * @param total how many in its lifetime
     */
    default void onDropped(long total) {}
}
