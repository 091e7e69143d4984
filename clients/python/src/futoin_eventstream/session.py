"""One session of a reliable receiver: reads, hands on in order, acknowledges.

However it ends, the events that handlers are at are finished, the others are
forgotten, and the position is acknowledged once more. Nothing of it is
remembered: the next session begins where the service says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from futoin.evt.v1 import push_pb2

from .backlog import Backlog
from .connection import Connection
from .errors import EventStreamError, ServiceError, SessionLost
from .events import Event
from .flag import Flag
from .handling import Handling
from .options import Settings
from .outcome import is_fenced, is_final
from .subscription import Subscription

log = logging.getLogger("futoin_eventstream")


class Session:
    """Runs once. Whoever made it reads the attributes afterwards."""

    def __init__(
        self,
        connection: Connection,
        request: push_pb2.ReadyToReceiveRequest,
        settings: Settings,
        handling: Handling,
        *,
        by_group: bool,
    ) -> None:
        self._connection = connection
        self._component = request.component
        self._settings = settings
        self._handling = handling
        self._subscription = Subscription(connection, request)
        self._backlog = Backlog(settings.key, by_group=by_group)
        self._over = Flag()
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._epoch = 0
        self._seq = 0
        self._may_acknowledge = True
        self.error: Exception | None = None
        """Why it ended; None if it was asked to."""
        self.fenced = False
        """Another session has the consumer, or it was sought."""
        self.delivered = False
        """It brought a group."""
        self.acknowledged = 0
        """The last position that the service confirmed."""
        self.stored: int | None = None
        """The consumer's position in the service, further than that in a replay; None: not told."""

    @property
    def position(self) -> int:
        """Everything up to this id has been handled; 0: nothing yet."""
        return self._backlog.position

    def end(self, error: Exception | None = None) -> None:
        """Ends it soon. The first error counts, unless a later one is final."""
        if error:
            self.fenced = self.fenced or is_fenced(error)
            if not self._over or (is_final(error) and not (self.error and is_final(self.error))):
                self.error = error
        self._over.set()
        self._work.set()
        self._progress.set()

    async def run(self) -> None:
        """Until it is over, in good order. Cancelled, it drops everything at once."""
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._subscription.open()
            # It reads to the last, though it takes nothing after the end: a take-over still matters then.
            reader = self._spawn(self._read())
            rest = [self._spawn(self._acknowledge())]
            rest += [self._spawn(self._handle()) for _ in range(self._settings.workers)]
            tasks = [reader, *rest]
            await self._over.wait()
            # They keep their errors; what one raises is a handler's own cancellation.
            await asyncio.gather(*rest, return_exceptions=True)
            await self._acknowledge_last()
        finally:
            self._subscription.close()
            self._over.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, part: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await part
            except asyncio.CancelledError:
                if self._over:
                    raise
                self.end(EventStreamError("a handler let itself be cancelled"))
            except Exception as error:
                self.end(error)

        return asyncio.create_task(guarded())

    async def _read(self) -> None:
        while True:
            message = await self._subscription.read()
            if self._over:
                continue
            kind = message.WhichOneof("payload")
            if kind == "started":
                self._begin(message.started)
            elif kind == "group":
                self._receive(message.group)
            elif kind == "ending":
                log.info("%s: the service is about to end the session: %s", self._component, message.ending.reason)

    def _begin(self, started: push_pb2.SubscriptionStarted) -> None:
        self._epoch = started.epoch
        log.info("%s: session %s of epoch %d", self._component, started.session_id, started.epoch)
        if self._settings.on_started:
            self._settings.on_started(started.epoch, started.start_after_id)

    def _receive(self, group: push_pb2.EventGroup) -> None:
        if group.seq != self._seq or not self._epoch:
            raise SessionLost(f"group {group.seq} came instead of group {self._seq}")
        self._seq += 1
        self.delivered = True
        self._backlog.add([Event(message) for message in group.events], group.last_id)
        self._work.set()
        self._progress.set()

    async def _handle(self) -> None:
        backlog, handle, over = self._backlog, self._handling.handle, self._over
        handled = 0
        while not over:
            unit = backlog.take()
            if unit is None:
                self._work.clear()
                await self._work.wait()
                continue
            if not await handle(unit, over):
                return
            backlog.finish(unit)
            self._progress.set()
            handled += 1
            if handled % 100 == 0:
                # Handlers that never wait let nobody else run.
                await asyncio.sleep(0)

    async def _acknowledge(self) -> None:
        attempt = 0
        while not self._over:
            if self.position == self.acknowledged:
                self._progress.clear()
                await self._progress.wait()
                continue
            try:
                await self._send_position()
                attempt = 0
            except ServiceError as error:
                if is_fenced(error) or is_final(error):
                    self._may_acknowledge = False
                    raise
                attempt += 1
                log.warning("%s: acknowledging failed, attempt %d: %s", self._component, attempt, error)
                delay = self._settings.backoff.delay(attempt, error.retry_after)
                await self._over.within(delay.total_seconds())

    async def _acknowledge_last(self) -> None:
        if self.position == self.acknowledged or self.fenced or not self._may_acknowledge:
            return
        try:
            await self._send_position()
        except ServiceError as error:
            # What is not acknowledged comes again.
            log.warning("%s: the last acknowledgement failed: %s", self._component, error)
            self.end(error)

    async def _send_position(self) -> None:
        position = self.position
        request = push_pb2.AckRequest(component=self._component, last_id=position, epoch=self._epoch)
        patience = timedelta(seconds=self._subscription.patience)
        response = await self._connection.call(self._connection.push.Ack, request, patience)
        self.acknowledged = position
        self.stored = response.acked_id
