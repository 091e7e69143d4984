package org.futoin.eventstream;

/** The root of what this library throws once a call has begun; see its subclasses for what can be told apart. */
public class EventStreamException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /**
     * An error with a text.
     *
     * @param message what happened
     */
    public EventStreamException(String message) {
        super(message);
    }

    /**
     * An error with its reason.
     *
     * @param message what happened
     * @param cause why
     */
    public EventStreamException(String message, Throwable cause) {
        super(message, cause);
    }
}
