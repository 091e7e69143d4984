package org.futoin.eventstream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class BackoffTest {
    private final Backoff backoff = new Backoff(Duration.ofMillis(100), Duration.ofSeconds(10));

    @ParameterizedTest
    @CsvSource({"1, 100", "2, 200", "7, 6400", "8, 10000", "2000, 10000"})
    void aDelayIsDrawnFromTheUpperHalf(int attempt, long millis) {
        for (int i = 0; i < 100; i++) {
            long delay = backoff.delay(attempt).toNanos();
            assertTrue(delay >= millis * 500_000 && delay <= millis * 1_000_000, () -> "delay " + delay);
        }
    }

    @Test
    void theServiceSetsTheLowerBound() {
        var retry = RetryInfo.newBuilder().setRetryDelay(Times.of(Duration.ofSeconds(3)));
        var status = com.google.rpc.Status.newBuilder()
                .setCode(Status.Code.UNAVAILABLE.value())
                .addDetails(Any.pack(retry.build()));
        var error = ServiceException.of(StatusProto.toStatusRuntimeException(status.build()));
        assertEquals(Duration.ofSeconds(3), backoff.delay(1, error));
        assertTrue(backoff.delay(20, error).compareTo(Duration.ofSeconds(5)) >= 0);
    }

    @Test
    void waitsMustGrow() {
        assertThrows(IllegalArgumentException.class, () -> new Backoff(Duration.ZERO, Duration.ofSeconds(1)));
        assertThrows(IllegalArgumentException.class, () -> new Backoff(Duration.ofSeconds(2), Duration.ofSeconds(1)));
    }
}
