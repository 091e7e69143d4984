package org.futoin.eventstream;

/** What becomes of an event on which the handler fails. */
public final class FailurePolicy {
    /** Where events go that cannot be handled. */
    @FunctionalInterface
    public interface DeadLetters {
        /**
         * Keeps an event for later. Returning acknowledges it.
         *
         * @param event what could not be handled
         * @param error of the last try
         * @throws Exception counts as one more failure of the handler
         */
        void accept(Event event, Throwable error) throws Exception;
    }

    static final int FOR_EVER = Integer.MAX_VALUE;

    final int attempts;
    final DeadLetters deadLetters;

    private FailurePolicy(int attempts, DeadLetters deadLetters) {
        if (attempts < 1) {
            throw new IllegalArgumentException("attempts must be at least 1");
        }
        this.attempts = attempts;
        this.deadLetters = deadLetters;
    }

    /**
     * The same event again, with back-off, for ever: nothing overtakes it. The default.
     *
     * @return the policy
     */
    public static FailurePolicy retry() {
        return new FailurePolicy(FOR_EVER, null);
    }

    /**
     * The receiver ends with a {@link HandlerException} that names the event; what was before it is acknowledged.
     *
     * @return the policy
     */
    public static FailurePolicy stop() {
        return new FailurePolicy(1, null);
    }

    /**
     * After five tries the event goes to a callback, and the receiver on to the next.
     *
     * @param letters where to
     * @return the policy
     */
    public static FailurePolicy deadLetter(DeadLetters letters) {
        return deadLetter(5, letters);
    }

    /**
     * After some tries the event goes to a callback, and the receiver on to the next.
     *
     * @param attempts how many, at least 1
     * @param letters where to; of a group each event
     * @return the policy
     */
    public static FailurePolicy deadLetter(int attempts, DeadLetters letters) {
        return new FailurePolicy(attempts, letters);
    }
}
