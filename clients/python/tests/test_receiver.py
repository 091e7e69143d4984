"""What receivers do beyond the cases of clients/conformance: traces, scopes, handlers that misbehave."""

import asyncio
import threading
from typing import Any

import pytest
from databases import SQLITE
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from futoin_eventstream import DeadLetter, Event, EventStream, EventStreamError, HandlerFailed, Start, Stop, sync


@pytest.fixture
async def stream():
    async with EventStream(SQLITE.service) as client:
        yield client


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    """What the application's tracing gets; there is one provider for a process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


async def test_a_span_for_each_call(stream: EventStream, spans: InMemorySpanExporter) -> None:
    await stream.register("P_SPANS", Start.NOW)
    id = await stream.add_event("P_SPANS", 1)
    seen: list[Any] = []

    async def handle(_event: Event) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)
        if len(seen) == 1:
            raise ValueError("once")
        receiver.stop()

    receiver = stream.receive("P_SPANS", handle, want=["P_SPANS"])
    await receiver.run()
    failed, done = [span for span in spans.get_finished_spans() if span.name == "process P_SPANS"]
    assert [failed.context.span_id, done.context.span_id] == seen
    assert failed.status.status_code is StatusCode.ERROR
    assert done.kind is SpanKind.CONSUMER
    assert dict(done.attributes) == {
        "messaging.system": "futoin_eventstream",
        "messaging.destination.name": "P_SPANS",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.message.id": str(id),
    }


def test_handlers_in_threads_are_inside_of_the_span(spans: InMemorySpanExporter) -> None:
    with sync.EventStream(SQLITE.service) as stream:
        stream.register("P_THREAD_SPANS", Start.NOW)
        stream.add_event("P_THREAD_SPANS", 1)
        seen: list[Any] = []

        def handle(_event: Event) -> None:
            seen.append((threading.current_thread(), trace.get_current_span().get_span_context().span_id))
            receiver.stop()

        receiver = stream.receive("P_THREAD_SPANS", handle, want=["P_THREAD_SPANS"])
        receiver.run()
    (span,) = [span for span in spans.get_finished_spans() if span.name == "process P_THREAD_SPANS"]
    assert seen == [(threading.current_thread(), span.context.span_id)]


async def test_a_failure_has_its_cause_and_its_event(stream: EventStream) -> None:
    await stream.register("P_CAUSE", Start.NOW)
    id = await stream.add_event("P_CAUSE", 1)

    async def handle(_event: Event) -> None:
        raise KeyError("cause")

    with pytest.raises(HandlerFailed) as failed:
        await stream.receive("P_CAUSE", handle, want=["P_CAUSE"], on_failure=Stop()).run()
    assert failed.value.event.id == id
    assert isinstance(failed.value.__cause__, KeyError)


async def test_a_scope_raises_what_ended_its_receiver(stream: EventStream) -> None:
    await stream.register("P_RAISES", Start.NOW)
    await stream.add_event("P_RAISES", 1)
    called = asyncio.Event()

    async def handle(_event: Event) -> None:
        called.set()
        raise ValueError

    with pytest.raises(HandlerFailed):
        async with stream.receive("P_RAISES", handle, want=["P_RAISES"], on_failure=Stop()):
            await called.wait()


async def test_a_handler_that_cancels_itself_ends_the_receiver(stream: EventStream) -> None:
    await stream.register("P_SELF", Start.NOW)
    await stream.add_event("P_SELF", 1)

    async def handle(_event: Event) -> None:
        raise asyncio.CancelledError

    with pytest.raises(EventStreamError, match="let itself be cancelled"):
        await stream.receive("P_SELF", handle, want=["P_SELF"]).run()


async def test_an_error_of_a_hook_or_a_key_ends_the_receiver(stream: EventStream) -> None:
    await stream.register("P_HOOK", Start.NOW)
    await stream.add_event("P_HOOK", 1)

    async def handle(_event: Event) -> None:
        pytest.fail("it was handled")

    def broken(*_: Any) -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError):
        await stream.receive("P_HOOK", handle, want=["P_HOOK"], on_started=broken).run()
    with pytest.raises(LookupError):
        await stream.receive("P_HOOK", handle, want=["P_HOOK"], key=broken, workers=2).run()


async def test_a_receiver_runs_once(stream: EventStream) -> None:
    receiver = stream.receive("P_ONCE", print)
    receiver.stop()
    await receiver.run()
    with pytest.raises(RuntimeError, match="once"):
        await receiver.run()


def test_threads_side_by_side_in_a_scope() -> None:
    with sync.EventStream(SQLITE.service) as stream:
        stream.register("P_BESIDE", Start.NOW)
        for number in range(4):
            stream.add_event("P_BESIDE", number)
        # Nobody passes before all four handlers are there at once.
        together = threading.Barrier(5)
        receiver = stream.receive(
            "P_BESIDE", lambda _event: together.wait(30), want=["P_BESIDE"], workers=4, key=lambda event: event.data
        )
        with receiver:
            together.wait(30)


def test_a_dead_letter_may_block_in_threads() -> None:
    with sync.EventStream(SQLITE.service) as stream:
        stream.register("P_LETTER", Start.NOW)
        id = stream.add_event("P_LETTER", 1)
        letters: list[Any] = []

        def handle(_event: Event) -> None:
            raise ValueError("never")

        def dead(event: Event, error: Exception) -> None:
            letters.append((event.id, str(error), threading.current_thread()))
            receiver.stop()

        receiver = stream.receive("P_LETTER", handle, want=["P_LETTER"], on_failure=DeadLetter(dead, attempts=2))
        receiver.run()
        assert letters == [(id, "never", threading.current_thread())]
        assert stream.register("P_LETTER").position >= id


def test_an_interrupt_in_a_handler_leaves_at_once() -> None:
    with sync.EventStream(SQLITE.service) as stream:
        before = stream.register("P_INTERRUPT", Start.NOW).position
        stream.add_event("P_INTERRUPT", 1)

        def handle(_event: Event) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stream.receive("P_INTERRUPT", handle, want=["P_INTERRUPT"]).run()
        assert stream.register("P_INTERRUPT").position == before
