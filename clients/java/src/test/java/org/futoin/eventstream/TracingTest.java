package org.futoin.eventstream;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.sdk.testing.junit5.OpenTelemetryExtension;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

/** Spans of handler calls, as an application would export them. */
class TracingTest {
    @RegisterExtension
    static final OpenTelemetryExtension TELEMETRY = OpenTelemetryExtension.create();

    @Test
    void eachCallOfTheHandlerIsASpan() throws Exception {
        var address = "http://" + Services.variable("TEST_SQLITE");
        try (var stream = EventStream.builder(address)
                .openTelemetry(TELEMETRY.getOpenTelemetry())
                .build()) {
            stream.admin().register("J_trace", Start.now());
            long id = stream.addEvent("J_TRACE", 1);
            stream.addEvent("J_TRACE", 2);
            var calls = new AtomicInteger();
            var receiver = stream.receiver("J_trace")
                    .want("J_TRACE")
                    .onFailure(FailurePolicy.stop())
                    .handle(event -> {
                        if (calls.incrementAndGet() == 2) {
                            throw new IllegalStateException("the second call");
                        }
                    });
            assertEquals(
                    2,
                    assertThrows(HandlerException.class, receiver::await)
                            .event()
                            .data()
                            .intValue());

            var spans = TELEMETRY.getSpans();
            assertEquals(2, spans.size());
            var span = spans.get(0);
            assertEquals("process J_trace", span.getName());
            assertEquals(SpanKind.CONSUMER, span.getKind());
            assertEquals("futoin_eventstream", attribute(span, "messaging.system"));
            assertEquals("process", attribute(span, "messaging.operation.type"));
            assertEquals("J_trace", attribute(span, "messaging.destination.name"));
            assertEquals(Long.toString(id), attribute(span, "messaging.message.id"));
            assertEquals(StatusCode.UNSET, span.getStatus().getStatusCode());
            assertEquals(StatusCode.ERROR, spans.get(1).getStatus().getStatusCode());
        }
    }

    private static String attribute(io.opentelemetry.sdk.trace.data.SpanData span, String name) {
        return span.getAttributes().get(AttributeKey.stringKey(name));
    }
}
