"""Bulk import: any number of events, cut into transactions that are safe to repeat.

A call carries a few transactions, which are kept until it is answered, so that
it can be repeated; memory is bounded by that. Their request ids follow from the
import's own, so that a repeated import finds what it has done.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid5

from futoin.evt.v1 import gen_pb2

from .connection import Connection, Metadata
from .errors import EventStreamError, ServiceError
from .events import NewEvent

_BATCH_EVENTS = 1000
_BATCH_BYTES = 4 * 1024 * 1024
_CALL_BATCHES = 16


@dataclass
class ImportResult:
    """How far an import came."""

    batch_count: int = 0
    """Transactions committed."""
    event_count: int = 0
    """Events committed."""
    first_id: int = 0
    """Id of the first event; 0: none."""
    last_id: int = 0
    """Id of the last event; 0: none."""

    def add(self, batches: int, events: int, first_id: int, last_id: int) -> None:
        """Counts what one call committed."""
        self.batch_count += batches
        self.event_count += events
        self.first_id = self.first_id or first_id
        self.last_id = last_id or self.last_id


class ImportStopped(EventStreamError):
    """An import that did not reach its end; `__cause__` is the `ServiceError`."""

    def __init__(self, result: ImportResult) -> None:
        super().__init__(f"the import stopped after {result.event_count} events")
        self.result = result
        """What is committed."""


class Import:
    """One import."""

    def __init__(self, connection: Connection, request_id: UUID, timeout: timedelta) -> None:
        self._connection = connection
        self._request_id = request_id
        self._timeout = timeout
        self._batches = 0
        self._result = ImportResult()

    async def run(self, events: Iterable[NewEvent] | AsyncIterable[NewEvent]) -> ImportResult:
        """Adds them all."""
        batches: list[gen_pb2.ImportEventsRequest] = []
        async for batch in self._cut(events):
            batches.append(batch)
            if len(batches) == _CALL_BATCHES:
                await self._send(batches)
                batches = []
        if batches:
            await self._send(batches)
        return self._result

    async def _send(self, batches: list[gen_pb2.ImportEventsRequest]) -> None:
        send = self._connection.gen.ImportEvents

        # A list would be taken for a single message; an iterator is used up by one attempt.
        async def attempt(request: object, *, timeout: float, metadata: Metadata) -> gen_pb2.ImportEventsResponse:
            return await send(iter(batches), timeout=timeout, metadata=metadata)

        try:
            done = await self._connection.call_repeatedly(attempt, None, self._timeout)
        except ServiceError as error:
            told = [int(error.metadata.get(name, 0)) for name in ("batch_count", "event_count", "first_id", "last_id")]
            self._result.add(*told)
            raise ImportStopped(self._result) from error
        self._result.add(done.batch_count, done.event_count, done.first_id, done.last_id)

    async def _cut(
        self, events: Iterable[NewEvent] | AsyncIterable[NewEvent]
    ) -> AsyncIterator[gen_pb2.ImportEventsRequest]:
        batch = self._batch()
        size = 0
        async for event in _each(events):
            message = event.to_message()
            size += message.ByteSize()
            if batch.events and (len(batch.events) == _BATCH_EVENTS or size > _BATCH_BYTES):
                yield batch
                batch, size = self._batch(), message.ByteSize()
            batch.events.append(message)
        if batch.events:
            yield batch

    def _batch(self) -> gen_pb2.ImportEventsRequest:
        self._batches += 1
        return gen_pb2.ImportEventsRequest(request_id=str(uuid5(self._request_id, str(self._batches))))


async def _each(events: Iterable[NewEvent] | AsyncIterable[NewEvent]) -> AsyncIterator[NewEvent]:
    if isinstance(events, AsyncIterable):
        async for event in events:
            yield event
    else:
        for event in events:
            yield event
