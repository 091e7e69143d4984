"""What a receiver does about a handler that fails, and about other sessions of its consumer."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from futoin.evt.v1 import push_pb2

from .events import Event


class Conflict(enum.IntEnum):
    """What the first subscription does when another session of the consumer is open."""

    TAKE_OVER = push_pb2.CONFLICT_POLICY_TAKE_OVER
    """Ends the other one."""
    REJECT = push_pb2.CONFLICT_POLICY_REJECT
    """Ends itself with FAILED_PRECONDITION, SUBSCRIPTION_ACTIVE."""
    STAND_BY = push_pb2.CONFLICT_POLICY_STAND_BY
    """Waits until the other one has ended."""


@dataclass(frozen=True)
class Retry:
    """The same event again, with back-off, for ever."""


@dataclass(frozen=True)
class Stop:
    """The receiver ends with `HandlerFailed`; what was before the event is acknowledged."""


@dataclass(frozen=True)
class DeadLetter:
    """After some attempts the event goes to a callback, and the receiver on."""

    callback: Callable[[Event, Exception], Awaitable[None] | None]
    """Gets the event and the handler's last error. If it fails, that counts as a failing handler."""
    attempts: int = 5
    """Calls of the handler before the callback."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts: must be at least 1")


FailurePolicy = Retry | Stop | DeadLetter
"""`Retry()`, `Stop()` or `DeadLetter(callback, attempts)`."""
