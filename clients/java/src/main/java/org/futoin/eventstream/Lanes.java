package org.futoin.eventstream;

import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Work of one key in order, of different keys side by side. It holds no more than the service's window lets through.
 * Its state belongs to the receiver's {@link Monitor}.
 */
final class Lanes {
    private static final Logger LOG = LoggerFactory.getLogger(ReliableReceiver.class);

    private final Monitor monitor;
    private final ExecutorService workers;

    /** A key is here while work of it is waiting or being done. */
    private final Map<Object, Queue<Work>> lanes = new HashMap<>();

    /** One event to handle. */
    @FunctionalInterface
    interface Work {
        void run() throws InterruptedException;
    }

    Lanes(Receiver owner, int count) {
        monitor = owner.monitor;
        workers = Executors.newFixedThreadPool(count, work -> new Receiver.Worker(owner, work));
    }

    void submit(Object key, Work work) {
        monitor.update(() -> {
            var lane = lanes.get(key);
            if (lane != null) {
                lane.add(work);
                return;
            }
            lane = new ArrayDeque<>();
            lane.add(work);
            lanes.put(key, lane);
            start(key);
        });
    }

    /** Waits until all that was submitted is done. */
    void drain() throws InterruptedException {
        monitor.await(lanes::isEmpty);
    }

    void interrupt() {
        monitor.update(workers::shutdownNow);
    }

    /** One piece of work, then the other keys' turn. */
    private void run(Object key) {
        try {
            head(key).run();
        } catch (InterruptedException e) {
            LOG.debug("cancelled", e);
            return;
        }
        monitor.update(() -> next(key));
    }

    private Work head(Object key) {
        var head = new Work[1];
        monitor.update(() -> head[0] = lanes.get(key).peek());
        return head[0];
    }

    private void next(Object key) {
        var lane = lanes.get(key);
        lane.remove();
        if (lane.isEmpty()) {
            lanes.remove(key);
        } else {
            start(key);
        }
    }

    private void start(Object key) {
        if (!workers.isShutdown()) {
            workers.execute(() -> run(key));
        }
    }
}
