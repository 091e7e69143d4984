package org.futoin.eventstream;

import java.util.List;
import java.util.UUID;
import org.futoin.evt.v1.AddEventRequest;
import org.futoin.evt.v1.AddEventsRequest;
import org.futoin.evt.v1.ImportEventsResponse;

/**
 * A client of the service: one connection for everything, made once and closed with the program. Its calls throw
 * {@link ServiceException}, and {@link InvalidEventException} before anything is sent. What may be repeated is repeated
 * with back-off until the client's timeout.
 */
public final class EventStream implements AutoCloseable {
    private final Service service;

    EventStream(Service service) {
        this.service = service;
    }

    /**
     * A client without further options.
     *
     * @param address {@code http://HOST:PORT}, {@code https://HOST:PORT}, {@code HOST:PORT}, or {@code unix:PATH} on
     *     Linux
     * @return the client; it connects when it is first used
     */
    public static EventStream connect(String address) {
        return builder(address).build();
    }

    /**
     * A client with options.
     *
     * @param address as in {@link #connect}
     * @return its builder
     */
    public static EventStreamBuilder builder(String address) {
        return new EventStreamBuilder(address);
    }

    /**
     * Adds an event whose data is a value; see {@link NewEvent#of}. For an event that belongs to a database transaction
     * use {@link Events}.
     *
     * @param type {@code ^[A-Z_]{1,16}$}
     * @param data anything that Jackson can write
     * @return the event's id; it is durable
     */
    public long addEvent(String type, Object data) {
        return addEvent(NewEvent.of(type, data), UUID.randomUUID());
    }

    /**
     * Adds an event whose data is ready JSON text; see {@link NewEvent#ofJson}.
     *
     * @param type {@code ^[A-Z_]{1,16}$}
     * @param json one well-formed JSON value, stored as given
     * @return the event's id; it is durable
     */
    public long addEventJson(String type, String json) {
        return addEvent(NewEvent.ofJson(type, json), UUID.randomUUID());
    }

    /**
     * Adds an event under a request id of the caller's: within the service's window (an hour by default) the same id
     * adds nothing again and returns the first answer, also after a restart of the caller.
     *
     * @param event what happened
     * @param requestId chosen by the caller
     * @return the event's id; it is durable
     */
    public long addEvent(NewEvent event, UUID requestId) {
        var request = AddEventRequest.newBuilder()
                .setType(event.type())
                .setDataJson(event.dataJson())
                .setRequestId(requestId.toString())
                .build();
        return service.repeated(limit -> service.gen(limit).addEvent(request)).getId();
    }

    /**
     * Adds events in one transaction: all or none.
     *
     * @param events 1 to 1000
     * @return their ids in the same order, gaps possible
     */
    public List<Long> addEvents(List<NewEvent> events) {
        return addEvents(events, UUID.randomUUID());
    }

    /**
     * Adds events in one transaction under a request id of the caller's.
     *
     * @param events 1 to 1000
     * @param requestId as in {@link #addEvent(NewEvent, UUID)}
     * @return their ids in the same order, gaps possible
     */
    public List<Long> addEvents(List<NewEvent> events, UUID requestId) {
        var request = AddEventsRequest.newBuilder()
                .addAllEvents(NewEvent.toProto(events))
                .setRequestId(requestId.toString())
                .build();
        if (events.isEmpty() || events.size() > Rules.MAX_BATCH_EVENTS) {
            throw new InvalidEventException("events", "must be 1 to 1000");
        }
        if (request.getSerializedSize() > Rules.MAX_MESSAGE_BYTES) {
            throw new InvalidEventException("events", "must have at most 16 MiB together");
        }
        return service.repeated(limit -> service.gen(limit).addEvents(request)).getIdsList();
    }

    /**
     * Adds any number of events, in order, a thousand per transaction. When the connection is lost it goes on where the
     * service says that it is. The client's timeout is for a time without progress.
     *
     * @param events iterated again after a lost connection: the same events each time
     * @param importId chosen by the caller: a repeated import with the same id, also of another run of the program,
     *     adds no event twice within the service's window
     * @return what was committed
     * @throws ServiceException what was committed before it is in its {@link ServiceException#metadata}
     */
    public ImportEventsResponse importEvents(Iterable<NewEvent> events, UUID importId) {
        return new Import(service, events, importId).run();
    }

    /**
     * Starts a receiver of every event of a component, with default options.
     *
     * @param component {@code ^[A-Za-z0-9_]{1,16}$}; registered when it is not
     * @param handler called for each event, by one thread
     * @return the running receiver
     */
    public ReliableReceiver receive(String component, EventHandler handler) {
        return receiver(component).handle(handler);
    }

    /**
     * Options of a reliable receiver.
     *
     * @param component {@code ^[A-Za-z0-9_]{1,16}$}
     * @return its builder
     */
    public ReliableReceiver.Builder receiver(String component) {
        return new ReliableReceiver.Builder(service, component);
    }

    /**
     * Options of a receiver of what happens from now on.
     *
     * @return its builder
     */
    public LiveReceiver.Builder live() {
        return new LiveReceiver.Builder(service);
    }

    /**
     * Events of a registered component for a plain loop, without push.
     *
     * @param component {@code ^[A-Za-z0-9_]{1,16}$}, or {@code LIVE} to read without a position
     * @return what to iterate
     */
    public EventPoll poll(String component) {
        return new EventPoll(service, component);
    }

    /**
     * Calls for operators.
     *
     * @return on this connection
     */
    public Admin admin() {
        return new Admin(service);
    }

    /** Closes the receivers that still run, as {@link Receiver#close} does, and then the connection. */
    @Override
    public void close() {
        service.close();
    }
}
