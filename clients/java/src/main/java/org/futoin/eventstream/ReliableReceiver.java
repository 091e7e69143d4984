package org.futoin.eventstream;

import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.futoin.evt.v1.ConflictPolicy;
import org.futoin.evt.v1.EventGroup;
import org.futoin.evt.v1.ReadyToReceiveRequest;
import org.futoin.evt.v1.RegisterConsumerRequest;
import org.futoin.evt.v1.RegisterConsumerResponse;
import org.futoin.evt.v1.StartAt;
import org.futoin.evt.v1.SubscriptionStarted;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Gets every event of a component, in order, at least once, across restarts of either side; made by
 * {@link EventStream#receive} or {@link EventStream#receiver}.
 *
 * <p>The position is the service's: every session begins there, never from memory, but a replay that was interrupted,
 * which goes on after its last event.
 */
public final class ReliableReceiver extends Receiver {
    private static final Logger LOG = LoggerFactory.getLogger(ReliableReceiver.class);
    private static final long UNKNOWN = -1;

    private final Reliability reliability;
    private final Attempts attempts;
    private final Lanes lanes;
    private boolean registered;
    private boolean standBy;
    private boolean replaying;
    private boolean broughtGroup;
    private long stored = UNKNOWN;
    private long handled;

    /** What only reliable receivers are told. */
    record Reliability(
            boolean register, StartAt start, boolean replay, boolean byGroup, int workers, Function<Event, ?> key) {}

    ReliableReceiver(Service service, Settings settings, Reliability reliability, GroupHandler handler) {
        super(service, settings);
        this.reliability = reliability;
        this.registered = !reliability.register();
        this.replaying = reliability.replay();
        this.attempts = new Attempts(monitor, settings, handler);
        this.lanes = reliability.workers() > 1 ? new Lanes(this, reliability.workers()) : null;
    }

    @Override
    EventStreamException session() throws InterruptedException {
        broughtGroup = false;
        var refused = register();
        if (refused != null || monitor.stopping()) {
            return refused;
        }
        var session = Session.open(service, monitor, Session.Flow.RELIABLE, request());
        try {
            deliver(session);
        } finally {
            session.close();
        }
        standBy |= session.fenced();
        return session.end();
    }

    @Override
    boolean broughtGroup() {
        return broughtGroup;
    }

    @Override
    void interruptHandlers() {
        if (lanes != null) {
            lanes.interrupt();
        }
    }

    private EventStreamException register() throws InterruptedException {
        if (registered) {
            return null;
        }
        var request = RegisterConsumerRequest.newBuilder().setComponent(settings.component());
        if (reliability.start() != null) {
            request.setStart(reliability.start());
        }
        var answer = new Answer<RegisterConsumerResponse>(monitor);
        service.refresh();
        service.pollStub()
                .withDeadlineAfter(Service.CALL_LIMIT.toMillis(), TimeUnit.MILLISECONDS)
                .registerConsumer(request.build(), answer);
        if (!answer.await() || answer.error() != null) {
            return answer.error();
        }
        registered = true;
        stored = answer.value().getConsumer().getPosition();
        replaying &= !startsAtPosition();
        return null;
    }

    private ReadyToReceiveRequest request() {
        var request = settings.request().toBuilder();
        if (standBy) {
            request.setConflictPolicy(ConflictPolicy.CONFLICT_POLICY_STAND_BY);
        }
        if (replaying) {
            request.setStart(resume());
        }
        return request.build();
    }

    /** True when there is nothing to replay: the start is where the component is, or it begins there now. */
    private boolean startsAtPosition() {
        return replaying
                && reliability.start().hasAfterId()
                && stored <= reliability.start().getAfterId();
    }

    private StartAt resume() {
        return handled > 0 ? StartAt.newBuilder().setAfterId(handled).build() : reliability.start();
    }

    private void deliver(Session session) throws InterruptedException {
        Acks acks = null;
        for (var message = session.next(); message != null; message = session.next()) {
            if (message.hasStarted()) {
                acks = begin(session, message.getStarted());
            } else {
                broughtGroup = true;
                deliver(session, acks, message.getGroup());
            }
        }
        if (acks != null) {
            finish(acks);
        }
    }

    private Acks begin(Session session, SubscriptionStarted started) {
        LOG.info(
                "{}: session {} begins after {}",
                settings.component(),
                started.getSessionId(),
                started.getStartAfterId());
        hook(() -> settings.listener().onStarted(started.getEpoch(), started.getStartAfterId()));
        return new Acks(service, monitor, session, settings.backoff(), settings.component(), started.getEpoch());
    }

    private void finish(Acks acks) throws InterruptedException {
        if (lanes != null) {
            lanes.drain();
        }
        acks.flush();
        handled = Math.max(handled, acks.handled());
        stored = Math.max(stored, acks.stored());
        replaying &= handled == 0 || stored == UNKNOWN || stored > handled;
    }

    private void deliver(Session session, Acks acks, EventGroup group) throws InterruptedException {
        if (group.getEventsCount() == 0) {
            acks.done(acks.add(group.getLastId()));
        } else if (reliability.byGroup()) {
            handle(session, acks, Event.of(group.getEventsList()), group.getLastId());
        } else {
            deliverEach(session, acks, group);
        }
    }

    private void deliverEach(Session session, Acks acks, EventGroup group) throws InterruptedException {
        int last = group.getEventsCount() - 1;
        for (int i = 0; i <= last && !monitor.read(session::over); i++) {
            var event = Event.of(group.getEvents(i));
            // Filtered events behind the last one are covered by the group's own id.
            handle(session, acks, List.of(event), i == last ? group.getLastId() : event.id());
        }
    }

    private void handle(Session session, Acks acks, List<Event> events, long position) throws InterruptedException {
        var entry = acks.add(position);
        if (lanes == null) {
            handleNow(session, acks, events, entry);
        } else {
            lanes.submit(reliability.key().apply(events.get(0)), () -> handleNow(session, acks, events, entry));
        }
    }

    private void handleNow(Session session, Acks acks, List<Event> events, Progress.Entry entry)
            throws InterruptedException {
        if (attempts.handle(session, events)) {
            acks.done(entry);
        }
    }

    /** Options of a {@link ReliableReceiver}. */
    public static final class Builder extends ReceiverBuilder<Builder> {
        private boolean register = true;
        private boolean replay;
        private StartAt start;
        private int workers = 1;
        private Function<Event, ?> key = event -> "";

        Builder(Service service, String component) {
            super(service, component);
            request.setConflictPolicy(Conflict.TAKE_OVER.policy);
        }

        /**
         * Where a new registration starts; ignored when the component is registered already. By default with the oldest
         * event kept.
         *
         * @param start the place
         * @return this
         */
        public Builder startAt(Start start) {
            this.start = start.toProto();
            this.replay = false;
            return this;
        }

        /**
         * Where this run starts, although the component's position is further on; new registrations start there too.
         *
         * @param start the place, not above the position
         * @return this
         */
        public Builder replayFrom(Start start) {
            this.start = start.toProto();
            this.replay = true;
            return this;
        }

        /**
         * Whether to register the component first, as by default.
         *
         * @param register false: it is registered by somebody else
         * @return this
         */
        public Builder register(boolean register) {
            this.register = register;
            return this;
        }

        /**
         * What to do on the first subscription when another session of the component is open; by default take over.
         * After a take-over by another receiver this one stands by.
         *
         * @param conflict the policy
         * @return this
         */
        public Builder conflict(Conflict conflict) {
            request.setConflictPolicy(conflict.policy);
            return this;
        }

        /**
         * Handles events of different keys side by side, those of one key in order. Acknowledged is only what has no
         * gap below it. Only for {@link #handle}.
         *
         * @param workers threads
         * @param key of an event; equal keys are one; null is a key too
         * @return this
         */
        public Builder workers(int workers, Function<Event, ?> key) {
            if (workers < 1) {
                throw new IllegalArgumentException("workers must be at least 1");
            }
            this.workers = workers;
            this.key = key;
            return this;
        }

        /**
         * How many events may be sent and not acknowledged.
         *
         * @param events 0: the service's default
         * @return this
         */
        public Builder maxInFlightEvents(int events) {
            request.setMaxInFlightEvents(events);
            return this;
        }

        /**
         * How many bytes of event data may be sent and not acknowledged.
         *
         * @param bytes 0: the service's default
         * @return this
         */
        public Builder maxInFlightBytes(long bytes) {
            request.setMaxInFlightBytes(bytes);
            return this;
        }

        /**
         * Starts the receiver.
         *
         * @param handler called for each event, by one thread unless {@link #workers} says otherwise
         * @return the running receiver
         */
        public ReliableReceiver handle(EventHandler handler) {
            return begin(false, events -> handler.handle(events.get(0)));
        }

        /**
         * Starts the receiver.
         *
         * @param handler called for each group, by one thread
         * @return the running receiver
         */
        public ReliableReceiver handleGroups(GroupHandler handler) {
            if (workers > 1) {
                throw new IllegalArgumentException("workers are for the handler of single events");
            }
            return begin(true, handler);
        }

        private ReliableReceiver begin(boolean byGroup, GroupHandler handler) {
            var reliability = new Reliability(register, start, replay, byGroup, workers, key);
            var receiver = new ReliableReceiver(service, settings(), reliability, handler);
            receiver.begin();
            return receiver;
        }

        @Override
        Builder self() {
            return this;
        }
    }
}
