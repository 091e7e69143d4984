package org.futoin.eventstream;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;

/** Growing waits between tries: doubled each time, and jittered so that many clients do not come back at once. */
record Backoff(Duration initial, Duration max) {
    static final Backoff DEFAULT = new Backoff(Duration.ofMillis(100), Duration.ofSeconds(10));

    Backoff {
        if (initial.isNegative() || initial.isZero() || max.compareTo(initial) < 0) {
            throw new IllegalArgumentException("backoff: the first wait must be positive and at most the longest");
        }
    }

    /** The wait after a failed try, counted from 1. */
    Duration delay(int attempt) {
        double nanos = Math.min(max.toNanos(), initial.toNanos() * Math.pow(2, attempt - 1));
        return Duration.ofNanos((long) (nanos * ThreadLocalRandom.current().nextDouble(0.5, 1)));
    }

    /** The same, and no less than the service asked for. */
    Duration delay(int attempt, EventStreamException error) {
        var delay = delay(attempt);
        if (!(error instanceof ServiceException service)) {
            return delay;
        }
        return service.retryAfter().filter(asked -> asked.compareTo(delay) > 0).orElse(delay);
    }
}
