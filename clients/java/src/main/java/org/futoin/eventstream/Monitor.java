package org.futoin.eventstream;

import java.time.Duration;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;
import java.util.function.LongSupplier;

/**
 * The one lock of a receiver. Whatever its threads share changes under it, and every wait is a wait for such a change,
 * so that stop works wherever a receiver waits.
 */
final class Monitor {
    private final ReentrantLock lock = new ReentrantLock();
    private final Condition changed = lock.newCondition();
    private volatile boolean stopping;
    private volatile boolean cancelled;

    void stop() {
        update(() -> stopping = true);
    }

    void cancel() {
        update(() -> {
            stopping = true;
            cancelled = true;
        });
    }

    boolean stopping() {
        return stopping;
    }

    boolean cancelled() {
        return cancelled;
    }

    void update(Runnable change) {
        lock.lock();
        try {
            change.run();
            changed.signalAll();
        } finally {
            lock.unlock();
        }
    }

    boolean read(BooleanSupplier state) {
        lock.lock();
        try {
            return state.getAsBoolean();
        } finally {
            lock.unlock();
        }
    }

    /** Waits without a limit. */
    void await(BooleanSupplier done) throws InterruptedException {
        lock.lockInterruptibly();
        try {
            while (!done.getAsBoolean()) {
                changed.await();
            }
        } finally {
            lock.unlock();
        }
    }

    /** Waits at most that long; false when it was for nothing. */
    boolean await(BooleanSupplier done, Duration limit) throws InterruptedException {
        long deadline = System.nanoTime() + limit.toNanos();
        return await(done, () -> deadline);
    }

    /** Waits until a deadline in {@link System#nanoTime} that may move while it waits. */
    boolean await(BooleanSupplier done, LongSupplier deadline) throws InterruptedException {
        lock.lockInterruptibly();
        try {
            while (!done.getAsBoolean()) {
                long left = deadline.getAsLong() - System.nanoTime();
                if (left <= 0) {
                    return false;
                }
                changed.awaitNanos(left);
            }
            return true;
        } finally {
            lock.unlock();
        }
    }
}
