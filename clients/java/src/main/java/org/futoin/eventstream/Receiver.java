package org.futoin.eventstream;

import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import org.futoin.evt.v1.ReadyToReceiveRequest;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A running receiver. It works on threads of its own, reconnects by itself, and ends when it is stopped, or with an
 * error that trying again cannot cure.
 */
public abstract sealed class Receiver implements AutoCloseable permits ReliableReceiver, LiveReceiver {
    private static final Logger LOG = LoggerFactory.getLogger(Receiver.class);

    final Service service;
    final Settings settings;
    final Monitor monitor = new Monitor();
    private final CompletableFuture<Void> completion = new CompletableFuture<>();
    private final Thread thread;

    /** What every receiver is told by its builder; the request is complete but for where to start. */
    record Settings(
            ReadyToReceiveRequest request,
            FailurePolicy onFailure,
            Backoff backoff,
            ReceiverListener listener,
            Tracing tracing) {
        String component() {
            return request.getComponent();
        }
    }

    /** Runs handlers, whose calls of {@link #close} must not wait for themselves. */
    static final class Worker extends Thread {
        private final Receiver owner;

        Worker(Receiver owner, Runnable work) {
            super(work, "eventstream-" + owner.settings.component());
            this.owner = owner;
            setDaemon(true);
        }
    }

    Receiver(Service service, Settings settings) {
        this.service = service;
        this.settings = settings;
        this.thread = new Worker(this, this::run);
    }

    final void begin() {
        service.began(this);
        thread.start();
    }

    /**
     * One session from its registration to its last acknowledgement.
     *
     * @return why it ended; null when the receiver is to stop
     */
    abstract EventStreamException session() throws InterruptedException;

    /** Whether the session that ended last brought events, so that attempts count anew. */
    abstract boolean broughtGroup();

    /** Interrupts what handles events on other threads than the receiver's own. */
    void interruptHandlers() {}

    /**
     * Asks the receiver to stop, and returns at once: it takes no further event, finishes and acknowledges the one in
     * the handler, and ends.
     */
    public final void stop() {
        monitor.stop();
    }

    /**
     * Interrupts the handler and ends the receiver; what was in the handler is not acknowledged and will come again.
     * {@link #await} then throws a {@link CancellationException}.
     */
    public final void cancel() {
        monitor.cancel();
        thread.interrupt();
        interruptHandlers();
    }

    /**
     * Waits for the end.
     *
     * @throws ServiceException what the service answered and trying again cannot cure
     * @throws HandlerException the event on which the handler failed, with {@link FailurePolicy#stop()}
     * @throws CancellationException after {@link #cancel}
     * @throws InterruptedException the caller was interrupted; the receiver goes on
     */
    public final void await() throws InterruptedException {
        try {
            completion.get();
        } catch (ExecutionException e) {
            throw e.getCause() instanceof RuntimeException cause ? cause : new IllegalStateException(e.getCause());
        }
    }

    /**
     * The end, for code that does not wait.
     *
     * @return done with the errors of {@link #await}; a copy, so completing it does nothing to the receiver
     */
    public final CompletableFuture<Void> completion() {
        var copy = new CompletableFuture<Void>(); // CompletableFuture.copy() would wrap the error.
        completion.whenComplete((done, error) -> {
            if (error == null) {
                copy.complete(null);
            } else {
                copy.completeExceptionally(error);
            }
        });
        return copy;
    }

    /**
     * Stops and waits for the end, but not for itself when a handler calls it. It throws nothing: the error with which
     * a receiver ended is {@link #await}'s, and in the log. A caller that is interrupted cancels the receiver.
     */
    @Override
    public final void close() {
        stop();
        if (Thread.currentThread() instanceof Worker worker && worker.owner == this) {
            return;
        }
        try {
            completion.handle((done, error) -> done).get();
        } catch (InterruptedException e) {
            cancel();
            Thread.currentThread().interrupt();
        } catch (ExecutionException e) {
            throw new IllegalStateException("handled above", e);
        }
    }

    private void run() {
        try {
            loop();
            completion.complete(null);
        } catch (InterruptedException e) {
            completion.cancel(false);
        } catch (EventStreamException e) {
            LOG.error("{}: the receiver ended", settings.component(), e);
            completion.completeExceptionally(e);
        } catch (Throwable e) {
            LOG.error("{}: the receiver broke down", settings.component(), e);
            completion.completeExceptionally(e);
        } finally {
            interruptHandlers();
            service.ended(this);
        }
    }

    private void loop() throws InterruptedException {
        for (int attempt = 1; ; attempt++) {
            var end = session();
            if (monitor.cancelled()) {
                throw new InterruptedException();
            }
            if (end instanceof HandlerException || (!monitor.stopping() && isFinal(end))) {
                throw end;
            }
            if (monitor.stopping()) {
                return;
            }
            if (broughtGroup()) {
                attempt = 1;
            }
            if (waits(attempt, end)) {
                return;
            }
        }
    }

    private static boolean isFinal(EventStreamException end) {
        return end instanceof ServiceException error && error.isFinal();
    }

    /** True when it was stopped meanwhile. */
    private boolean waits(int attempt, EventStreamException error) throws InterruptedException {
        var delay = settings.backoff().delay(attempt, error);
        LOG.warn(
                "{}: attempt {} follows in {} ms: {}",
                settings.component(),
                attempt,
                delay.toMillis(),
                error.getMessage());
        hook(() -> settings.listener().onReconnect(attempt, delay, error));
        return monitor.await(monitor::stopping, delay);
    }

    /** Calls a listener, whose faults are not the receiver's. */
    final void hook(Runnable call) {
        try {
            call.run();
        } catch (RuntimeException e) {
            LOG.error("{}: a listener failed", settings.component(), e);
        }
    }
}
