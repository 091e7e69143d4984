package org.futoin.eventstream;

/** A receiver ended because its handler failed and {@link FailurePolicy#stop()} was asked for. */
public final class HandlerException extends EventStreamException {
    private static final long serialVersionUID = 1;

    private final transient Event event;

    HandlerException(Event event, Throwable cause) {
        super("the handler failed on event " + event.id() + " (" + event.type() + "): " + cause, cause);
        this.event = event;
    }

    /**
     * What could not be handled. It is not acknowledged: the next receiver of the component gets it again.
     *
     * @return the event; of a group its first
     */
    public Event event() {
        return event;
    }
}
