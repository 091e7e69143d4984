package org.futoin.eventstream;

import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import org.futoin.evt.v1.EventGroup;

/**
 * Gets what happens from now on; made by {@link EventStream#live}. Nothing is registered or acknowledged: what a slow
 * handler or a lost connection misses is gone, and only the former can be counted.
 */
public final class LiveReceiver extends Receiver {
    private static final String LIVE = "LIVE";

    private final boolean byGroup;
    private final Attempts attempts;
    private final AtomicLong dropped = new AtomicLong();
    private boolean broughtGroup;

    LiveReceiver(Service service, Settings settings, boolean byGroup, GroupHandler handler) {
        super(service, settings);
        this.byGroup = byGroup;
        this.attempts = new Attempts(monitor, settings, handler);
    }

    /**
     * Events that the service dropped because this receiver was too slow, before its filter.
     *
     * @return how many so far
     */
    public long dropped() {
        return dropped.get();
    }

    @Override
    EventStreamException session() throws InterruptedException {
        broughtGroup = false;
        var session = Session.open(service, monitor, Session.Flow.LIVE, settings.request());
        try {
            for (var message = session.next(); message != null; message = session.next()) {
                if (message.hasGroup()) {
                    broughtGroup = true;
                    deliver(session, message.getGroup());
                } else {
                    var started = message.getStarted();
                    hook(() -> settings.listener().onStarted(started.getEpoch(), started.getStartAfterId()));
                }
            }
        } finally {
            session.close();
        }
        return session.end();
    }

    @Override
    boolean broughtGroup() {
        return broughtGroup;
    }

    private void deliver(Session session, EventGroup group) throws InterruptedException {
        if (group.getSkippedEvents() > 0) {
            long total = dropped.addAndGet(group.getSkippedEvents());
            hook(() -> settings.listener().onDropped(total));
        }
        var events = Event.of(group.getEventsList());
        if (byGroup && !events.isEmpty()) {
            attempts.handle(session, events);
        } else {
            for (var event : events) {
                attempts.handle(session, List.of(event));
            }
        }
    }

    /** Options of a {@link LiveReceiver}. */
    public static final class Builder extends ReceiverBuilder<Builder> {
        Builder(Service service) {
            super(service, LIVE);
        }

        /**
         * Starts the receiver.
         *
         * @param handler called for each event, by one thread
         * @return the running receiver
         */
        public LiveReceiver handle(EventHandler handler) {
            return begin(false, events -> handler.handle(events.get(0)));
        }

        /**
         * Starts the receiver.
         *
         * @param handler called for each group, by one thread
         * @return the running receiver
         */
        public LiveReceiver handleGroups(GroupHandler handler) {
            return begin(true, handler);
        }

        private LiveReceiver begin(boolean byGroup, GroupHandler handler) {
            var receiver = new LiveReceiver(service, settings(), byGroup, handler);
            receiver.begin();
            return receiver;
        }

        @Override
        Builder self() {
            return this;
        }
    }
}
