"""A round trip against the real service on SQLite, by the client of asyncio and by that of threads."""

import asyncio
from datetime import datetime, timedelta, timezone
from uuid import uuid4

import grpc
import pytest
from databases import SQLITE

from futoin_eventstream import (
    Event,
    EventStream,
    ImportStopped,
    InvalidEvent,
    JsonText,
    NewEvent,
    ServiceError,
    Start,
    sync,
)

VALUES = [{"n": 2**53 + 1}, "text 😀", None, [1.5, True], 10**30]


@pytest.fixture
async def stream():
    async with EventStream(SQLITE.service) as client:
        yield client


async def drain(stream: EventStream, component: str, count: int, **options) -> list[Event]:
    """The next events of a consumer, by a reliable receiver."""
    events: list[Event] = []

    async def handle(event: Event) -> None:
        events.append(event)
        if len(events) == count:
            receiver.stop()

    receiver = stream.receive(component, handle, **options)
    await receiver.run()
    return events


async def test_added_events_arrive_in_order_and_exact(stream: EventStream) -> None:
    await stream.register("P_TRIP", Start.NOW)
    ids = [await stream.add_event("P_TRIP", value) for value in VALUES]
    ids += await stream.add_events([NewEvent("P_TRIP", JsonText(" [ 1.50 ] ")), NewEvent("P_TRIP", JsonText("1e3"))])
    events = await drain(stream, "P_TRIP", len(ids), want=["P_TRIP"])
    assert [event.id for event in events] == ids
    assert [event.data for event in events] == [*VALUES, [1.5], 1000.0]
    assert [event.data_json for event in events[-2:]] == [" [ 1.50 ] ", "1e3"]
    assert abs(events[0].ts - datetime.now(timezone.utc)) < timedelta(hours=1)
    assert (await stream.register("P_TRIP")).position >= ids[-1]


async def test_a_repeated_request_adds_nothing(stream: EventStream) -> None:
    request_id = uuid4()
    first = await stream.add_event("P_REPEAT", 1, request_id=request_id)
    assert await stream.add_event("P_REPEAT", 1, request_id=request_id) == first
    with pytest.raises(ServiceError) as reused:
        await stream.add_event("P_REPEAT", 2, request_id=request_id)
    assert reused.value.code is grpc.StatusCode.ALREADY_EXISTS
    assert reused.value.reason == "REQUEST_ID_REUSED"


async def test_an_import_goes_on_where_it_stopped(stream: EventStream) -> None:
    request_id = uuid4()
    await stream.register("P_IMPORT", Start.NOW)

    async def events(count: int):
        for number in range(count):
            yield NewEvent("P_IMPORT", number)

    part = await stream.import_events(events(2000), request_id=request_id)
    assert (part.batch_count, part.event_count) == (2, 2000)
    whole = await stream.import_events(events(20500), request_id=request_id)
    assert (whole.batch_count, whole.event_count, whole.first_id) == (21, 20500, part.first_id)
    got = [event.data async for event in stream.poll("P_IMPORT", want=["P_IMPORT"])]
    assert got == list(range(20500))


async def test_an_import_tells_how_far_it_came(stream: EventStream) -> None:
    request_id = uuid4()
    await stream.import_events((NewEvent("P_STOPPED", n) for n in range(1000)), request_id=request_id)
    others = (NewEvent("P_STOPPED", n if n < 1000 else "other") for n in range(1500))
    assert (await stream.import_events(others, request_id=request_id)).event_count == 1500
    changed = (NewEvent("P_STOPPED", n if n < 1000 else "changed") for n in range(1500))
    with pytest.raises(ImportStopped) as stopped:
        await stream.import_events(changed, request_id=request_id)
    assert stopped.value.result.event_count == 1000
    assert stopped.value.__cause__.reason == "REQUEST_ID_REUSED"


async def test_polling_acknowledges_what_was_taken(stream: EventStream) -> None:
    await stream.register("P_POLL", Start.NOW)
    ids = await stream.add_events([NewEvent("P_POLL", n) for n in range(25)])
    async for event in stream.poll("P_POLL", want=["P_POLL"], max_events=10):
        if event.id == ids[12]:
            break
    assert (await stream.register("P_POLL")).position == ids[9]
    assert [event.id async for event in stream.poll("P_POLL", want=["P_POLL"], max_events=10)] == ids[10:]
    assert [event.id async for event in stream.poll("P_POLL", want=["P_POLL"])] == []


async def test_polling_waits(stream: EventStream) -> None:
    await stream.register("P_WAIT", Start.NOW)
    events = stream.poll("P_WAIT", want=["P_WAIT"], max_wait=timedelta(seconds=10))
    first = asyncio.create_task(anext(events))
    id = await stream.add_event("P_WAIT", 1)
    assert (await first).id == id
    await events.aclose()


async def test_live(stream: EventStream) -> None:
    begun = asyncio.Event()
    async with stream.live(want=["P_LIVE"], on_started=lambda *_: begun.set()) as live:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(live), 0.01)
        reading = asyncio.create_task(anext(live))
        await begun.wait()
        id = await stream.add_event("P_LIVE", 1)
        assert (await reading).id == id
        live.stop()
        assert [event async for event in live] == []
    assert live.dropped == 0


async def test_replay_from_a_time_and_an_id(stream: EventStream) -> None:
    await stream.register("P_REPLAY", Start.NOW)
    before = datetime.now(timezone.utc) - timedelta(hours=1)
    ids = await stream.add_events([NewEvent("P_REPLAY", n) for n in range(5)])
    options = {"want": ["P_REPLAY"], "replay": True}
    for start in (None, Start.after(ids[1]), Start.at(before)):
        given = {"want": ["P_REPLAY"]} if start is None else {**options, "start": start}
        events = await drain(stream, "P_REPLAY", 3 if start == Start.after(ids[1]) else 5, **given)
        assert events[-1].id == ids[-1]
    assert (await stream.register("P_REPLAY")).position >= ids[-1]


async def test_scope_runs_beside_and_finishes(stream: EventStream) -> None:
    handled = asyncio.Event()

    async def handle(_event: Event) -> None:
        handled.set()

    async with stream.receive("P_SCOPE", handle, start=Start.NOW, want=["P_SCOPE"], on_started=None):
        await stream.register("P_SCOPE")
        id = await stream.add_event("P_SCOPE", 1)
        await handled.wait()
    assert (await stream.register("P_SCOPE")).position >= id


async def test_administration(stream: EventStream) -> None:
    id = await stream.add_event("P_ADMIN", 1)
    await stream.register("P_ADMIN", Start.NOW)
    assert (await stream.seek("P_ADMIN", Start.after(id - 1))).position == id - 1
    assert "P_ADMIN" in [consumer.component async for consumer in stream.consumers()]
    status = await stream.status()
    assert status.database == "sqlite"
    assert status.frontier_id >= id
    await stream.unregister("P_ADMIN")
    with pytest.raises(ServiceError) as gone:
        await stream.seek("P_ADMIN", Start.after(1))
    assert (gone.value.code, gone.value.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_REGISTERED")
    with pytest.raises(ServiceError) as refused:
        await stream.skip_frontier(10**17, accept_loss=True, reason="too far")
    assert refused.value.code in (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.INVALID_ARGUMENT)


async def test_errors_name_the_field(stream: EventStream) -> None:
    with pytest.raises(ServiceError) as refused:
        await stream.register("not a name")
    assert (refused.value.code, refused.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, "component")
    with pytest.raises(InvalidEvent):
        await stream.add_event("lower", 1)


async def test_an_absent_service_is_an_error_at_the_deadline() -> None:
    async with EventStream("127.0.0.1:1", timeout=timedelta(milliseconds=300)) as nowhere:
        with pytest.raises(ServiceError) as unreachable:
            await nowhere.add_event("P_NOWHERE", 1)
    assert unreachable.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_threads() -> None:
    with sync.EventStream(SQLITE.service) as stream:
        stream.register("P_SYNC", Start.NOW)
        ids = [stream.add_event("P_SYNC", 0), *stream.add_events([NewEvent("P_SYNC", n) for n in range(2)])]
        assert stream.import_events([NewEvent("P_SYNC", 3)]).event_count == 1
        assert [event.data for event in stream.poll("P_SYNC", want=["P_SYNC"], max_events=2)] == [0, 0, 1, 3]
        events: list[Event] = []

        def handle(event: Event) -> None:
            events.append(event)
            if len(events) == 4:
                receiver.stop()

        receiver = stream.receive("P_SYNC", handle, want=["P_SYNC"], start=Start.after(ids[0] - 1), replay=True)
        receiver.run()
        assert [event.id for event in events[:3]] == ids
        assert stream.status().head_id >= ids[-1]
        assert "P_SYNC" in [consumer.component for consumer in stream.consumers()]
        assert stream.seek("P_SYNC", Start.after(ids[0])).position == ids[0]
        with stream.live(want=["P_SYNC"], start=Start.after(ids[0])) as live:
            assert next(live).id == ids[1]
        stream.unregister("P_SYNC")
    stream.close()
