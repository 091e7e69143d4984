package org.futoin.eventstream;

import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import java.util.List;

/** A span for each call of a handler. The only class that needs OpenTelemetry: it is loaded when one is given. */
final class OpenTelemetryTracing implements Tracing {
    private final Tracer tracer;

    OpenTelemetryTracing(OpenTelemetry telemetry) {
        tracer = telemetry.getTracer("org.futoin.eventstream");
    }

    @Override
    public GroupHandler around(String component, GroupHandler handler) {
        return events -> {
            var span = start(component, events);
            try (var scope = span.makeCurrent()) {
                handler.handle(events);
            } catch (Throwable e) {
                span.recordException(e);
                span.setStatus(StatusCode.ERROR);
                throw e;
            } finally {
                span.end();
            }
        };
    }

    private Span start(String component, List<Event> events) {
        var span = tracer.spanBuilder("process " + component)
                .setSpanKind(SpanKind.CONSUMER)
                .setAttribute("messaging.system", "futoin_eventstream")
                .setAttribute("messaging.operation.type", "process")
                .setAttribute("messaging.destination.name", component)
                .setAttribute(
                        "messaging.message.id", Long.toString(events.get(0).id()));
        if (events.size() > 1) {
            span.setAttribute("messaging.batch.message_count", (long) events.size());
        }
        return span.startSpan();
    }
}
