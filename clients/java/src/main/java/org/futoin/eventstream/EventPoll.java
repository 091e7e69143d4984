package org.futoin.eventstream;

import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import org.futoin.evt.v1.PollEventsRequest;
import org.futoin.evt.v1.PollEventsResponse;
import org.futoin.evt.v1.Want;

/**
 * Events of a registered component for a plain loop.
 *
 * <p>Asking for more than a page holds acknowledges that page, as does reaching the end; a loop that is left early gets
 * the events of its last page again. Two iterators of one component fence each other.
 */
public final class EventPoll implements Iterable<Event> {
    private static final Duration LONG_POLL = Duration.ofSeconds(20);

    private final Service service;
    private final PollEventsRequest.Builder request;
    private Duration wait = Duration.ZERO;
    private boolean follow;

    EventPoll(Service service, String component) {
        this.service = service;
        this.request = PollEventsRequest.newBuilder().setComponent(component);
    }

    /**
     * Types of interest; by default every type.
     *
     * @param types each {@code ^[A-Z_]{1,16}$}
     * @return this
     * @throws InvalidEventException when one is no type
     */
    public EventPoll want(String... types) {
        List.of(types).forEach(Rules::type);
        request.setWant(Want.newBuilder().addAllTypes(List.of(types)));
        return this;
    }

    /**
     * Starts after an event and acknowledges up to it, instead of at the stored position.
     *
     * @param id the last event that was handled
     * @return this
     */
    public EventPoll afterId(long id) {
        request.setLastId(id);
        return this;
    }

    /**
     * Where to start; only for {@code LIVE}.
     *
     * @param start the place
     * @return this
     */
    public EventPoll startAt(Start start) {
        request.setStart(start.toProto());
        return this;
    }

    /**
     * Events of one page, and so how many may come again after a crash.
     *
     * @param events at most 1000; 0: the service's default
     * @return this
     */
    public EventPoll pageSize(int events) {
        request.setMaxEvents(events);
        return this;
    }

    /**
     * Waits for events where there are none, up to a time, before the loop ends.
     *
     * @param wait by default none
     * @return this
     */
    public EventPoll maxWait(Duration wait) {
        this.wait = wait;
        return this;
    }

    /**
     * Never ends: waits for the next event, however long that takes.
     *
     * @return this
     */
    public EventPoll follow() {
        this.follow = true;
        this.wait = LONG_POLL;
        return this;
    }

    /**
     * Begins at the stored position, unless told otherwise.
     *
     * @return an iterator for one thread; it throws {@link ServiceException}
     */
    @Override
    public Iterator<Event> iterator() {
        return new Pages(request.clone().setMaxWait(Times.of(wait)));
    }

    private final class Pages implements Iterator<Event> {
        private final PollEventsRequest.Builder next;
        private PollEventsResponse page = PollEventsResponse.getDefaultInstance();
        private int read;
        private boolean ended;

        Pages(PollEventsRequest.Builder first) {
            next = first;
        }

        @Override
        public boolean hasNext() {
            while (!ended && read == page.getEventsCount()) {
                turn();
            }
            return !ended;
        }

        @Override
        public Event next() {
            if (!hasNext()) {
                throw new NoSuchElementException();
            }
            return Event.of(page.getEvents(read++));
        }

        private void turn() {
            page = service.repeated(wait, limit -> service.poll(limit).pollEvents(next.build()));
            read = 0;
            next.setLastId(page.getLastId()).clearStart();
            if (page.getEpoch() != 0) {
                next.setEpoch(page.getEpoch());
            }
            ended = page.getEventsCount() == 0 && !page.getMore() && !follow;
        }
    }
}
