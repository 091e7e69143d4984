"""A span for each call of a handler, where the application uses OpenTelemetry.

Without the package, or without a tracer provider, handlers are called as they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from .events import Event

try:
    from opentelemetry import trace
except ImportError:  # an optional dependency
    _HAVE_API = False
else:
    _HAVE_API = True

Call = Callable[[Sequence[Event]], Awaitable[None]]


def traced(call: Call, component: str) -> Call:
    """`call` inside a span, if there is anybody to see it."""
    if not _HAVE_API or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return call
    tracer = trace.get_tracer("futoin_eventstream")

    async def in_span(events: Sequence[Event]) -> None:
        attributes: dict[str, str | int] = {
            "messaging.system": "futoin_eventstream",
            "messaging.destination.name": component,
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.message.id": str(events[0].id),
        }
        if len(events) > 1:
            attributes["messaging.batch.message_count"] = len(events)
        with tracer.start_as_current_span(f"process {component}", kind=trace.SpanKind.CONSUMER, attributes=attributes):
            await call(events)

    return in_span
