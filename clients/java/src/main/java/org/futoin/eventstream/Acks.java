package org.futoin.eventstream;

import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.futoin.evt.v1.AckRequest;
import org.futoin.evt.v1.AckResponse;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The acknowledgements of one session: at most one call is under way, and what is handled meanwhile goes as one into
 * the next. Its state belongs to the receiver's {@link Monitor}.
 */
final class Acks implements StreamObserver<AckResponse> {
    private static final Logger LOG = LoggerFactory.getLogger(ReliableReceiver.class);
    /** A peer that is gone must not keep a receiver from reconnecting, or a program from ending. */
    private static final Duration FLUSH_LIMIT = Duration.ofSeconds(5);

    private final Service service;
    private final Monitor monitor;
    private final Session session;
    private final Backoff backoff;
    private final AckRequest template;
    private final Progress progress = new Progress();
    private long sent;
    private long acked;
    private long stored = -1;
    private int failures;
    private boolean underWay;
    private boolean waiting;
    private boolean closing;

    Acks(Service service, Monitor monitor, Session session, Backoff backoff, String component, long epoch) {
        this.service = service;
        this.monitor = monitor;
        this.session = session;
        this.backoff = backoff;
        this.template =
                AckRequest.newBuilder().setComponent(component).setEpoch(epoch).build();
    }

    Progress.Entry add(long position) {
        var entry = new Progress.Entry[1];
        monitor.update(() -> entry[0] = progress.add(position));
        return entry[0];
    }

    void done(Progress.Entry entry) {
        monitor.update(() -> {
            progress.done(entry);
            send();
        });
    }

    /** The last position of the session is acknowledged once; nobody waits for more than a few seconds. */
    void flush() throws InterruptedException {
        monitor.update(() -> closing = true);
        long deadline = System.nanoTime() + FLUSH_LIMIT.toNanos();
        monitor.await(() -> !underWay, () -> deadline);
        monitor.update(this::sendLast);
        if (!monitor.await(() -> !underWay, () -> deadline)) {
            LOG.warn("{}: no answer to the acknowledgement of {}", template.getComponent(), sent);
        }
    }

    /** Where the events of this session are handled to; 0: none is. */
    long handled() {
        return progress.position();
    }

    /** The service's position as it last told; -1: it did not. */
    long stored() {
        return stored;
    }

    @Override
    public void onNext(AckResponse response) {
        monitor.update(() -> {
            stored = response.getAckedId();
            acked = sent;
            failures = 0;
        });
    }

    @Override
    public void onCompleted() {
        monitor.update(() -> {
            underWay = false;
            send();
        });
    }

    @Override
    public void onError(Throwable error) {
        monitor.update(() -> failed(ServiceException.of(error)));
    }

    private void send() {
        if (closing || waiting || session.over() || monitor.cancelled()) {
            return;
        }
        sendLast();
    }

    private void sendLast() {
        if (underWay || session.fenced() || progress.position() <= acked) {
            return;
        }
        underWay = true;
        sent = progress.position();
        service.pushStub()
                .withDeadlineAfter(session.patience(), TimeUnit.NANOSECONDS)
                .ack(template.toBuilder().setLastId(sent).build(), this);
    }

    private void failed(ServiceException error) {
        underWay = false;
        if (error.fenced() || error.isFinal()) {
            session.end(error);
        } else if (closing) {
            LOG.warn("{}: the acknowledgement of {} failed: {}", template.getComponent(), sent, error.getMessage());
        } else {
            waiting = true;
            service.later(backoff.delay(++failures, error), () -> monitor.update(this::again));
        }
    }

    private void again() {
        waiting = false;
        send();
    }
}
