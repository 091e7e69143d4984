"""One gRPC channel to the service: address, TLS, token, and calls with typed errors.

The only place that touches gRPC's channel and its metadata.
"""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import grpc

from futoin.evt.v1 import admin_pb2_grpc, gen_pb2_grpc, poll_pb2_grpc, push_pb2_grpc

from .backoff import Backoff
from .errors import ServiceError

if TYPE_CHECKING:
    # Names of types only: the same stubs serve both kinds of channel.
    from futoin.evt.v1.admin_pb2_grpc import AdminServiceAsyncStub
    from futoin.evt.v1.gen_pb2_grpc import GenServiceAsyncStub
    from futoin.evt.v1.poll_pb2_grpc import PollServiceAsyncStub
    from futoin.evt.v1.push_pb2_grpc import PushServiceAsyncStub

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Of one gRPC message, both ways."""

Token = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or what gives one for each call."""

_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # The back-off is ours; the channel's own would grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A client is one connection, also beside others to the same address.
    ("grpc.use_local_subchannel_pool", 1),
]

# Each attempt gets a part of the deadline, so that one which hangs is repeated.
_ATTEMPTS_AT_LEAST = 3

Metadata = tuple[tuple[str, str], ...]

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)


@dataclass(frozen=True)
class Tls:
    """How an `https://` service is verified, and how this client proves itself; PEM files."""

    ca: Path | str | None = None
    """Authorities to trust; the system's if not given."""
    certificate: Path | str | None = None
    """This client's own certificate, with `key`."""
    key: Path | str | None = None

    def to_credentials(self) -> grpc.ChannelCredentials:
        """The files, read now."""
        # gRPC's own default would be a list of authorities that it ships.
        ca = self.ca or ssl.get_default_verify_paths().cafile
        return grpc.ssl_channel_credentials(
            root_certificates=_read(ca), private_key=_read(self.key), certificate_chain=_read(self.certificate)
        )


class Method(Protocol[Request, Response]):
    """A method of a generated stub with one answer."""

    def __call__(self, request: Request, /, *, timeout: float, metadata: Metadata) -> Awaitable[Response]:
        """Calls it."""


class Connection:
    """A channel, connected when it is first used."""

    def __init__(self, address: str, *, tls: Tls | None, token: Token | None, backoff: Backoff) -> None:
        target, secure = _target(address)
        if tls and not secure:
            raise ValueError("address: tls needs https://")
        self._token = token
        self._backoff = backoff
        if secure:
            credentials = (tls or Tls()).to_credentials()
            channel = grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
        else:
            channel = grpc.aio.insecure_channel(target, options=_OPTIONS + _authority(target))
        self._channel = channel
        self.admin = cast("AdminServiceAsyncStub", admin_pb2_grpc.AdminServiceStub(channel))
        self.gen = cast("GenServiceAsyncStub", gen_pb2_grpc.GenServiceStub(channel))
        self.poll = cast("PollServiceAsyncStub", poll_pb2_grpc.PollServiceStub(channel))
        self.push = cast("PushServiceAsyncStub", push_pb2_grpc.PushServiceStub(channel))

    async def close(self) -> None:
        """Ends every call."""
        await self._channel.close()

    async def metadata(self) -> Metadata:
        """What every call carries."""
        token = self._token
        if callable(token):
            given = token()
            token = await given if inspect.isawaitable(given) else given
        return (("authorization", f"Bearer {token}"),) if token else ()

    async def call(self, method: Method[Request, Response], request: Request, timeout: timedelta) -> Response:
        """Calls once."""
        try:
            return await method(request, timeout=timeout.total_seconds(), metadata=await self.metadata())
        except grpc.aio.AioRpcError as error:
            raise ServiceError.of(error) from error

    async def call_repeatedly(
        self, method: Method[Request, Response], request: Request, timeout: timedelta
    ) -> Response:
        """Calls until there is an answer or no time, a method that may be repeated without harm."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout.total_seconds()
        attempt = 0
        while True:
            left = timedelta(seconds=deadline - loop.time())
            try:
                return await self.call(method, request, min(left, timeout / _ATTEMPTS_AT_LEAST))
            except ServiceError as error:
                attempt += 1
                delay = self._backoff.delay(attempt, error.retry_after).total_seconds()
                if not _may_succeed_later(error) or loop.time() + delay >= deadline:
                    raise
            await asyncio.sleep(delay)


def _may_succeed_later(error: ServiceError) -> bool:
    if error.code is grpc.StatusCode.UNKNOWN:
        # Of a lost connection: the service gives every error of its own a reason.
        return not error.reason
    return error.code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )


def _target(address: str) -> tuple[str, bool]:
    scheme, separator, rest = address.partition("://")
    if not separator or scheme == "unix":
        return address, False
    if scheme not in ("http", "https"):
        raise ValueError(f"address: {scheme}:// is not http://, https:// or unix:")
    rest = rest.rstrip("/")
    if ":" not in rest.rpartition("]")[2]:
        rest += ":443" if scheme == "https" else ":80"
    return rest, scheme == "https"


def _authority(target: str) -> list[tuple[str, int | str]]:
    # gRPC's own for a socket is its escaped path, which servers refuse.
    return [("grpc.default_authority", "localhost")] if target.startswith("unix:") else []


def _read(path: Path | str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
