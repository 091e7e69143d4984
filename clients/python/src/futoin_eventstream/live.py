"""The live receiver: what happens from now on, without any promise.

It reads a group when its user has finished the one before, so the service sees
a slow reader and counts what it drops.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType

from typing_extensions import Unpack

from futoin.evt.v1 import push_pb2

from .connection import Connection
from .errors import ServiceError, SessionLost
from .events import Event
from .flag import Flag
from .options import Settings, StreamOptions
from .outcome import is_final
from .policies import Conflict
from .subscription import Subscription

log = logging.getLogger("futoin_eventstream")

_COMPONENT = "LIVE"


class LiveReceiver:
    """Made by `EventStream.live`: `async with stream.live() as live: async for event in live: ...`.

    A lost session is reported by `on_reconnect` and begun anew; what happened
    meanwhile is gone. Iteration ends by `stop`, or with a `ServiceError` when
    coming back makes no sense.
    """

    def __init__(self, connection: Connection, **options: Unpack[StreamOptions]) -> None:
        self._settings = Settings(**options)
        self._connection = connection
        self._start = self._settings.start
        self._subscription: Subscription | None = None
        self._reading: asyncio.Task[push_pb2.ReadyToReceiveResponse] | None = None
        self._events: deque[Event] = deque()
        self._stopping = Flag()
        self._attempt = 0
        self.dropped = 0
        """Events that the service left out because this receiver was too slow, so far."""

    @property
    def stopped(self) -> bool:
        """It was told to end."""
        return bool(self._stopping)

    def stop(self) -> None:
        """Ends the iteration."""
        self._stopping.set()

    async def close(self) -> None:
        """Stops, and closes the stream."""
        self.stop()
        await self._leave()

    async def __aenter__(self) -> LiveReceiver:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> LiveReceiver:
        return self

    async def __anext__(self) -> Event:
        while not self._events and not self._stopping:
            self._events.extend(await self.next_group())
        if self._stopping:
            await self._leave()
            raise StopAsyncIteration
        return self._events.popleft()

    async def next_group(self) -> Sequence[Event]:
        """What the service sent together next. Empty when it dropped events or the receiver was stopped."""
        while not self._stopping:
            try:
                message = await self._read()
            except (ServiceError, SessionLost) as error:
                await self._leave()
                if is_final(error):
                    raise
                await self._pause(error)
                continue
            if message is None:
                break
            if message.HasField("started"):
                self._begin(message.started)
            elif message.HasField("group"):
                self._attempt = 0
                self.dropped += message.group.skipped_events
                return [Event(event) for event in message.group.events]
        return ()

    def _begin(self, started: push_pb2.SubscriptionStarted) -> None:
        log.info("%s: session %s", _COMPONENT, started.session_id)
        # A replay is not begun twice.
        self._start = None
        if self._settings.on_started:
            self._settings.on_started(started.epoch, started.start_after_id)

    async def _read(self) -> push_pb2.ReadyToReceiveResponse | None:
        """The next message; None when the receiver is stopped first."""
        if self._subscription is None:
            request = self._settings.subscription(_COMPONENT, self._start, Conflict.TAKE_OVER)
            self._subscription = Subscription(self._connection, request)
            await self._subscription.open()
        # It outlives a caller who is cancelled, by a time-out for instance.
        self._reading = self._reading or asyncio.create_task(self._subscription.read())
        if not await self._stopping.before(self._reading):
            return None
        reading, self._reading = self._reading, None
        return await reading

    async def _leave(self) -> None:
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        if self._subscription:
            self._subscription.close()
            self._subscription = None

    async def _pause(self, error: ServiceError | SessionLost) -> None:
        self._attempt += 1
        retry_after = error.retry_after if isinstance(error, ServiceError) else None
        delay = self._settings.backoff.delay(self._attempt, retry_after)
        log.warning("%s: reconnecting in %d ms: %s", _COMPONENT, delay / timedelta(milliseconds=1), error)
        if self._settings.on_reconnect:
            self._settings.on_reconnect(self._attempt, delay, error)
        await self._stopping.within(delay.total_seconds())
