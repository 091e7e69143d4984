"""One push stream: its messages, and a watch that takes a silent peer for dead."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from futoin.evt.v1 import push_pb2

from .connection import Connection
from .errors import ServiceError, SessionLost

# Until the service has told its own.
_HEARTBEAT_SECONDS = 10.0
_MISSED = 3


class Subscription:
    """Reads messages between `open` and `close`. There is no deadline on it."""

    def __init__(self, connection: Connection, request: push_pb2.ReadyToReceiveRequest) -> None:
        self._connection = connection
        self._request = request
        self._call: Any = None
        self._watch: asyncio.Task[None] | None = None
        self._reading = False
        self._silent = 0
        self._dead = False
        self.heartbeat = request.heartbeat_interval.ToTimedelta().total_seconds() or _HEARTBEAT_SECONDS
        """Seconds after which the service shows that it lives."""

    async def open(self) -> None:
        """Calls the service, which answers when it is read."""
        self._call = self._connection.push.ReadyToReceive(self._request, metadata=await self._connection.metadata())
        self._watch_from_now()

    def close(self) -> None:
        """Ends the stream."""
        if self._watch:
            self._watch.cancel()
        if self._call:
            self._call.cancel()

    @property
    def patience(self) -> float:
        """Seconds of silence that a living service never reaches."""
        return self.heartbeat * _MISSED

    async def read(self) -> push_pb2.ReadyToReceiveResponse:
        """The next message. Raises `ServiceError`, or `SessionLost` where the service gave no error."""
        self._reading = True
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise ServiceError.of(error) from error
        except asyncio.CancelledError:
            if self._dead:
                raise SessionLost(f"nothing was heard for {self.patience:g} s") from None
            raise
        finally:
            self._reading = False
        if message is grpc.aio.EOF:
            raise SessionLost("the service ended the stream")
        self._silent = 0
        assert isinstance(message, push_pb2.ReadyToReceiveResponse), "gRPC parsed it"
        if message.HasField("started"):
            told = message.started.heartbeat_interval.ToTimedelta().total_seconds()
            self.heartbeat = told or self.heartbeat
            self._watch_from_now()
        return message

    def _watch_from_now(self) -> None:
        if self._watch:
            self._watch.cancel()
        self._watch = asyncio.create_task(self._watch_peer())

    async def _watch_peer(self) -> None:
        # Whole intervals are counted, and only while somebody reads: a process
        # that slept or worked for long does not take that for its peer's death.
        # The interval in which the last message came is not a whole one.
        while self._silent <= _MISSED:
            await asyncio.sleep(self.heartbeat)
            if self._reading:
                self._silent += 1
        self._dead = True
        self._call.cancel()
