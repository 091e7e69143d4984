package org.futoin.eventstream;

import io.grpc.CallCredentials;
import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.futoin.evt.v1.AdminServiceGrpc;
import org.futoin.evt.v1.AdminServiceGrpc.AdminServiceBlockingStub;
import org.futoin.evt.v1.GenServiceGrpc;
import org.futoin.evt.v1.GenServiceGrpc.GenServiceBlockingStub;
import org.futoin.evt.v1.GenServiceGrpc.GenServiceStub;
import org.futoin.evt.v1.PollServiceGrpc;
import org.futoin.evt.v1.PollServiceGrpc.PollServiceBlockingStub;
import org.futoin.evt.v1.PollServiceGrpc.PollServiceStub;
import org.futoin.evt.v1.PushServiceGrpc;
import org.futoin.evt.v1.PushServiceGrpc.PushServiceStub;

/** The connection that a client, its receivers and its iterators share, and how a call is repeated on it. */
final class Service implements AutoCloseable {
    /** One try of a call: a peer that is gone without a word must not take the whole time of a caller. */
    static final Duration CALL_LIMIT = Duration.ofSeconds(10);

    private final ManagedChannel channel;
    private final CallCredentials token;
    private final Duration timeout;
    private final Tracing tracing;
    private final Set<Receiver> receivers = ConcurrentHashMap.newKeySet();
    private final ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor(Service::timerThread);

    /** A token may be null: there is none. */
    Service(ManagedChannel channel, CallCredentials token, Duration timeout, Tracing tracing) {
        this.channel = channel;
        this.token = token;
        this.timeout = timeout;
        this.tracing = tracing;
    }

    private static Thread timerThread(Runnable work) {
        var thread = new Thread(work, "eventstream-timer");
        thread.setDaemon(true);
        return thread;
    }

    Duration timeout() {
        return timeout;
    }

    Tracing tracing() {
        return tracing;
    }

    GenServiceStub genStub() {
        return GenServiceGrpc.newStub(channel).withCallCredentials(token);
    }

    PollServiceStub pollStub() {
        return PollServiceGrpc.newStub(channel).withCallCredentials(token);
    }

    PushServiceStub pushStub() {
        return PushServiceGrpc.newStub(channel).withCallCredentials(token);
    }

    GenServiceBlockingStub gen(Duration limit) {
        return GenServiceGrpc.newBlockingStub(channel)
                .withCallCredentials(token)
                .withDeadlineAfter(limit.toNanos(), TimeUnit.NANOSECONDS);
    }

    PollServiceBlockingStub poll(Duration limit) {
        return PollServiceGrpc.newBlockingStub(channel)
                .withCallCredentials(token)
                .withDeadlineAfter(limit.toNanos(), TimeUnit.NANOSECONDS);
    }

    AdminServiceBlockingStub admin(Duration limit) {
        return AdminServiceGrpc.newBlockingStub(channel)
                .withCallCredentials(token)
                .withDeadlineAfter(limit.toNanos(), TimeUnit.NANOSECONDS);
    }

    /**
     * To be called before each try: a channel that could not connect waits by a clock of its own, up to two minutes,
     * and meanwhile fails every call with the error of its last try.
     */
    void refresh() {
        if (channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
            channel.enterIdle();
        }
    }

    void later(Duration delay, Runnable work) {
        if (!timer.isShutdown()) {
            timer.schedule(work, delay.toNanos(), TimeUnit.NANOSECONDS);
        }
    }

    void began(Receiver receiver) {
        receivers.add(receiver);
    }

    void ended(Receiver receiver) {
        receivers.remove(receiver);
    }

    /** One try, for what must not be done twice. */
    <T> T once(Function<Duration, T> call) {
        refresh();
        try {
            return call.apply(timeout);
        } catch (RuntimeException e) {
            throw ServiceException.of(e);
        }
    }

    /** Tries again, with back-off, until the client's time is over. */
    <T> T repeated(Function<Duration, T> call) {
        return repeated(Duration.ZERO, call);
    }

    /** The same for a call that the service may keep waiting on purpose. */
    <T> T repeated(Duration wait, Function<Duration, T> call) {
        long deadline = System.nanoTime() + wait.plus(timeout).toNanos();
        for (int attempt = 1; ; attempt++) {
            try {
                refresh();
                return call.apply(shorter(CALL_LIMIT.plus(wait), left(deadline)));
            } catch (RuntimeException e) {
                var error = ServiceException.of(e);
                var delay = Backoff.DEFAULT.delay(attempt, error);
                if (!error.mayRepeat() || delay.compareTo(left(deadline)) >= 0) {
                    throw error;
                }
                sleep(delay);
            }
        }
    }

    private static Duration left(long deadline) {
        return Duration.ofNanos(deadline - System.nanoTime());
    }

    private static Duration shorter(Duration a, Duration b) {
        return a.compareTo(b) < 0 ? a : b;
    }

    static void sleep(Duration delay) {
        try {
            TimeUnit.NANOSECONDS.sleep(delay.toNanos());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw ServiceException.of(Status.CANCELLED.withCause(e).asRuntimeException());
        }
    }

    /** Closes the receivers, waits a moment for other calls that are under way, and ends them. */
    @Override
    public void close() {
        receivers.forEach(Receiver::stop);
        receivers.forEach(Receiver::close);
        timer.shutdownNow();
        channel.shutdown();
        try {
            if (!channel.awaitTermination(1, TimeUnit.SECONDS)) {
                channel.shutdownNow();
            }
        } catch (InterruptedException e) {
            channel.shutdownNow();
            Thread.currentThread().interrupt();
        }
    }
}
