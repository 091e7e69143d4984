package org.futoin.eventstream;

import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Queue;
import org.futoin.evt.v1.EventGroup;
import org.futoin.evt.v1.ReadyToReceiveRequest;
import org.futoin.evt.v1.ReadyToReceiveResponse;
import org.futoin.evt.v1.SubscriptionStarted;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One push stream: what came and is not handled yet, whether the peer lives, and why it ended. Its state belongs to the
 * receiver's {@link Monitor}; a session that is over hands out nothing more.
 */
final class Session implements ClientResponseObserver<ReadyToReceiveRequest, ReadyToReceiveResponse> {
    private static final Logger LOG = LoggerFactory.getLogger(Receiver.class);
    private static final Duration DEFAULT_PATIENCE = Duration.ofSeconds(30);
    private static final int HEARTBEATS = 3;

    private final Monitor monitor;
    private final Flow flow;
    private final Queue<ReadyToReceiveResponse> unread = new ArrayDeque<>();
    private ClientCallStreamObserver<ReadyToReceiveRequest> call;
    private long patience;
    private long lastRead = System.nanoTime();
    private boolean started;
    private long groups;
    private EventStreamException end;

    /** How a session reads. */
    enum Flow {
        /** Everything at once: the service stops at its window. Groups are numbered without a gap. */
        RELIABLE,
        /** A few messages ahead of the handler: what a slow one misses, the service counts. */
        LIVE;

        private static final int READ_AHEAD = 4;
    }

    private Session(Monitor monitor, Flow flow, Duration patience) {
        this.monitor = monitor;
        this.flow = flow;
        this.patience = patience.toNanos();
    }

    static Session open(Service service, Monitor monitor, Flow flow, ReadyToReceiveRequest request) {
        var patience = request.hasHeartbeatInterval()
                ? Times.of(request.getHeartbeatInterval()).multipliedBy(HEARTBEATS)
                : DEFAULT_PATIENCE;
        var session = new Session(monitor, flow, patience);
        service.refresh();
        service.pushStub().readyToReceive(request, session);
        return session;
    }

    /** The next {@code started} or group; null once the session is over or the receiver is to stop. */
    ReadyToReceiveResponse next() throws InterruptedException {
        if (!monitor.await(() -> over() || !unread.isEmpty(), this::deadline) || late()) {
            end(new EventStreamException("nothing was heard of the service for "
                    + Duration.ofNanos(patience).toMillis() + " ms"));
        }
        var next = new ReadyToReceiveResponse[1];
        monitor.update(() -> next[0] = over() ? null : take());
        return next[0];
    }

    boolean over() {
        return end != null || monitor.stopping();
    }

    /** True when the consumer belongs to another session. */
    boolean fenced() {
        return end instanceof ServiceException error && error.fenced();
    }

    /** Nanoseconds without a word after which the peer counts as dead. */
    long patience() {
        return patience;
    }

    /** Why it ended; null while it has not. */
    EventStreamException end() {
        return end;
    }

    /** Ends it from this side; the first reason stays. */
    void end(EventStreamException reason) {
        monitor.update(() -> {
            if (end == null) {
                end = reason;
                close();
            }
        });
    }

    /** A call may fail while its stub still sends the request, and must not be cancelled under it. */
    private void ended(EventStreamException reason) {
        monitor.update(() -> end = end == null ? reason : end);
    }

    void close() {
        call.cancel("the receiver is done with it", null);
    }

    @Override
    public void beforeStart(ClientCallStreamObserver<ReadyToReceiveRequest> stream) {
        call = stream;
        if (flow == Flow.LIVE) {
            stream.disableAutoRequestWithInitial(Flow.READ_AHEAD);
        }
    }

    @Override
    public void onNext(ReadyToReceiveResponse message) {
        monitor.update(() -> read(message));
    }

    @Override
    public void onError(Throwable error) {
        ended(ServiceException.of(error));
    }

    @Override
    public void onCompleted() {
        ended(new EventStreamException("the service ended the stream"));
    }

    private void read(ReadyToReceiveResponse message) {
        lastRead = System.nanoTime();
        switch (message.getPayloadCase()) {
            case STARTED -> start(message.getStarted(), message);
            case GROUP -> enqueue(message.getGroup(), message);
            case ENDING -> {
                LOG.info(
                        "the service will end the stream: {}",
                        message.getEnding().getReason());
                readOn();
            }
            default -> readOn();
        }
    }

    private void start(SubscriptionStarted start, ReadyToReceiveResponse message) {
        started = true;
        patience =
                Times.of(start.getHeartbeatInterval()).multipliedBy(HEARTBEATS).toNanos();
        unread.add(message);
    }

    private void enqueue(EventGroup group, ReadyToReceiveResponse message) {
        long expected = groups++;
        if (!started) {
            end(new EventStreamException("a group came before the session started"));
        } else if (flow == Flow.RELIABLE && group.getSeq() != expected) {
            end(new EventStreamException("group " + group.getSeq() + " came instead of " + expected));
        } else {
            unread.add(message);
        }
    }

    private ReadyToReceiveResponse take() {
        if (flow == Flow.LIVE && unread.size() == Flow.READ_AHEAD) {
            lastRead = System.nanoTime(); // Until now nothing could be read.
        }
        var message = unread.poll();
        readOn();
        return message;
    }

    private void readOn() {
        if (flow == Flow.LIVE) {
            call.request(1);
        }
    }

    /** When the peer counts as dead; never while this side does not read. */
    private long deadline() {
        boolean reading = flow == Flow.RELIABLE || unread.size() < Flow.READ_AHEAD;
        return reading ? lastRead + patience : System.nanoTime() + patience;
    }

    private boolean late() {
        return monitor.read(() -> !over() && deadline() - System.nanoTime() <= 0);
    }
}
