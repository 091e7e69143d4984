"""The reliable receiver: every event of a component, in order, at least once.

It registers, opens one session after another, and waits between them. What is
true within one session is `session.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from typing_extensions import Unpack

from futoin.evt.v1 import poll_pb2

from . import start as place
from .connection import Connection
from .errors import ServiceError, SessionLost
from .events import Event
from .flag import Flag
from .handling import Handling
from .options import ReceiverOptions, Settings
from .outcome import is_final
from .policies import Conflict
from .session import Session
from .start import Start

log = logging.getLogger("futoin_eventstream")

Result = TypeVar("Result")

_CALL_TIMEOUT = timedelta(seconds=30)


class ReliableReceiver:
    """Made by `EventStream.receive` or `receive_groups`; runs once.

    `await receiver.run()` receives until it is stopped or fails. As a context,
    `async with receiver:`, it runs beside the block and is stopped at its end.

    Cancelling `run()` cancels the handler too, and acknowledges nothing more.
    """

    def __init__(
        self,
        connection: Connection,
        component: str,
        call: Callable[[Sequence[Event]], Awaitable[None]],
        *,
        by_group: bool,
        **options: Unpack[ReceiverOptions],
    ) -> None:
        settings = Settings(**options)
        if by_group and settings.workers > 1:
            raise ValueError("workers: a group is handled by one")
        self._settings = replace(settings, label=settings.label or f"{socket.gethostname()}:{os.getpid()}"[:128])
        self._connection = connection
        self._component = component
        self._by_group = by_group
        self._handling = Handling(call, component, settings.on_failure, settings.backoff)
        self._stopping = Flag()
        self._began = False
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._registered = not settings.register
        self._conflict = settings.conflict
        # Of this run: what it has handled, and where the service stands, if it told.
        self._position = 0
        self._stored: int | None = None

    async def run(self) -> None:
        """Receives until `stop`. Raises `ServiceError` or `HandlerFailed` when going on makes no sense."""
        if self._began:
            raise RuntimeError("a receiver runs once")
        self._began = True
        attempt = 0
        while not self._stopping:
            error, delivered = await self._attempt()
            if self._stopping and (error is None or isinstance(error, (ServiceError, SessionLost))):
                return
            assert error is not None, "a session ends without an error only when asked to"
            if is_final(error):
                raise error
            attempt = 1 if delivered else attempt + 1
            await self._pause(attempt, error)

    def stop(self) -> None:
        """Takes no further event; `run` finishes what the handler is at, acknowledges and returns."""
        self._stopping.set()
        if self._session:
            self._session.end()

    async def close(self) -> None:
        """Stops, and waits for the end of the context's run. Raises what that raised."""
        self.stop()
        if self._task:
            await self._task

    async def __aenter__(self) -> ReliableReceiver:
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _attempt(self) -> tuple[Exception | None, bool]:
        """Registers if need be and runs one session: why it ended, and whether it brought a group."""
        try:
            if not self._registered:
                await self._register()
        except ServiceError as error:
            return error, False
        if self._stopping:
            return None, False
        return await self._run_session()

    async def _register(self) -> None:
        request = poll_pb2.RegisterConsumerRequest(component=self._component, start=place.message(self._settings.start))
        response = await self._unless_stopped(
            self._connection.call(self._connection.poll.RegisterConsumer, request, _CALL_TIMEOUT)
        )
        if response is not None:
            self._stored = response.consumer.position
            self._registered = True

    async def _run_session(self) -> tuple[Exception | None, bool]:
        self._handling.trace()
        request = self._settings.subscription(self._component, self._start(), self._conflict)
        session = Session(self._connection, request, self._settings, self._handling, by_group=self._by_group)
        self._session = session
        try:
            await session.run()
        finally:
            self._session = None
        self._position = max(self._position, session.position)
        if session.stored is not None:
            self._stored = session.stored
        if session.fenced:
            self._conflict = Conflict.STAND_BY
        return session.error, session.delivered

    def _start(self) -> Start | None:
        """Only a replay names its start, and only until it has reached the stored position."""
        start = self._settings.start
        if not self._settings.replay or start is None:
            return None
        if self._position:
            start = Start.after(self._position)
        if start.id is not None and self._stored is not None and self._stored <= start.id:
            return None
        return start

    async def _pause(self, attempt: int, error: Exception) -> None:
        delay = self._settings.backoff.delay(attempt, getattr(error, "retry_after", None))
        log.warning(
            "%s: reconnecting in %d ms, attempt %d: %s",
            self._component,
            delay / timedelta(milliseconds=1),
            attempt,
            error,
        )
        if self._settings.on_reconnect:
            self._settings.on_reconnect(attempt, delay, error)
        await self._stopping.within(delay.total_seconds())

    async def _unless_stopped(self, call: Coroutine[Any, Any, Result]) -> Result | None:
        """The result of `call`, or None when the receiver was stopped meanwhile."""
        calling = asyncio.create_task(call)
        try:
            return await calling if await self._stopping.before(calling) else None
        finally:
            calling.cancel()
