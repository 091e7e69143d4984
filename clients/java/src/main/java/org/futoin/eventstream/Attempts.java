package org.futoin.eventstream;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Calls the handler until it succeeds, the policy has enough of it, or the session is over. */
final class Attempts {
    private static final Logger LOG = LoggerFactory.getLogger(Receiver.class);

    private final Monitor monitor;
    private final String component;
    private final GroupHandler handler;
    private final FailurePolicy policy;
    private final Backoff backoff;

    /** Failures of events that are not handled yet, by id: a lost session does not forgive them. */
    private final Map<Long, Integer> failures = new ConcurrentHashMap<>();

    Attempts(Monitor monitor, Receiver.Settings settings, GroupHandler handler) {
        this.monitor = monitor;
        this.component = settings.component();
        this.policy = settings.onFailure();
        this.backoff = settings.backoff();
        this.handler = settings.tracing().around(component, handler);
    }

    /** True when the events are done with; false when they are left, to come again in a later session. */
    boolean handle(Session session, List<Event> events) throws InterruptedException {
        var first = events.get(0);
        while (!monitor.read(session::over)) {
            int attempt = failures.getOrDefault(first.id(), 0) + 1;
            var error = call(events, attempt);
            if (monitor.cancelled()) {
                return false;
            }
            if (error == null) {
                failures.remove(first.id());
                return true;
            }
            failures.put(first.id(), attempt);
            LOG.warn("{}: event {}, attempt {}: the handler failed", component, first.id(), attempt, error);
            if (policy.deadLetters == null && attempt >= policy.attempts) {
                session.end(new HandlerException(first, error));
                return false;
            }
            monitor.await(session::over, backoff.delay(attempt));
        }
        return false;
    }

    /** Null, or why the events are not done with. */
    private Throwable call(List<Event> events, int attempt) {
        var error = outcome(() -> handler.handle(events));
        boolean enough = policy.deadLetters != null && attempt >= policy.attempts && !monitor.cancelled();
        return error != null && enough ? outcome(() -> bury(events, error)) : error;
    }

    private void bury(List<Event> events, Throwable error) throws Exception {
        for (var event : events) {
            LOG.error("{}: event {} is given up as a dead letter", component, event.id(), error);
            policy.deadLetters.accept(event, error);
        }
    }

    private interface Action {
        void run() throws Exception;
    }

    /** An {@link Error} is a failure too: a handler that runs into one must not be taken for one that succeeded. */
    private static Throwable outcome(Action action) {
        try {
            action.run();
            return null;
        } catch (Throwable e) {
            return e;
        } finally {
            Thread.interrupted(); // The handler's own affair, unless it is a cancel, which is known otherwise.
        }
    }
}
