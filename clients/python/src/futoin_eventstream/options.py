"""What a receiver can be told, with its defaults."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypedDict

from futoin.evt.v1 import push_pb2, types_pb2

from . import start as place
from .backoff import Backoff
from .events import Event, checked_type
from .policies import Conflict, FailurePolicy, Retry
from .start import Start

OnReconnect = Callable[[int, timedelta, Exception], None]
OnStarted = Callable[[int, int], None]


class StreamOptions(TypedDict, total=False):
    """Options of every receiver. 0 or None is the service's default."""

    want: Sequence[str] | None
    """Types of interest; None is all, an empty list none."""
    start: Start | None
    """Where a new registration starts (None: the oldest event kept); live: a replay before what is new."""
    max_in_flight_events: int
    """Events sent and not acknowledged, at which the service pauses."""
    max_in_flight_bytes: int
    """The same in bytes of data."""
    max_group_events: int
    """Events that are sent together, at most 1000."""
    max_linger: timedelta | None
    """How long the service may wait to fill a group."""
    heartbeat_interval: timedelta | None
    """How often an idle stream shows that it lives; after three it is taken for dead."""
    label: str
    """What operators see of this process; its host and number if not given."""
    backoff: Backoff
    """Pauses before reconnecting and before a handler is called again."""
    on_reconnect: OnReconnect | None
    """Is told the attempt (from 1), the delay and the error before each wait. What it raises ends the receiver."""
    on_started: OnStarted | None
    """Is told the epoch of a session and the id after which it delivers. What it raises ends the receiver."""


class ReceiverOptions(StreamOptions, total=False):
    """Options of a reliable receiver, beside those of every one."""

    replay: bool
    """Begin this run at `start`, though the consumer's position is further."""
    register: bool
    """Register the consumer first; on if not given."""
    on_failure: FailurePolicy
    """What to do when the handler fails; `Retry()` if not given."""
    workers: int
    """Handlers side by side, for different keys."""
    key: Callable[[Event], Hashable] | None
    """Events of one key are handled in their order."""
    conflict: Conflict
    """What the first subscription does about another session; `Conflict.TAKE_OVER` if not given."""


@dataclass(frozen=True)
class Settings:
    """All options with their defaults, checked."""

    want: Sequence[str] | None = None
    start: Start | None = None
    max_in_flight_events: int = 0
    max_in_flight_bytes: int = 0
    max_group_events: int = 0
    max_linger: timedelta | None = None
    heartbeat_interval: timedelta | None = None
    label: str = ""
    backoff: Backoff = field(default_factory=Backoff)
    on_reconnect: OnReconnect | None = None
    on_started: OnStarted | None = None
    replay: bool = False
    register: bool = True
    on_failure: FailurePolicy = field(default_factory=Retry)
    workers: int = 1
    key: Callable[[Event], Hashable] | None = None
    conflict: Conflict = Conflict.TAKE_OVER

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError("workers: must be at least 1")
        if self.workers > 1 and self.key is None:
            raise ValueError("workers: several need a key, by which events stay in order")
        if self.replay and (self.start is None or self.start == Start.NOW):
            raise ValueError("replay: needs a start in the past")
        wanted(self.want)

    def subscription(self, component: str, start: Start | None, conflict: Conflict) -> push_pb2.ReadyToReceiveRequest:
        """The request that opens a session."""
        request = push_pb2.ReadyToReceiveRequest(
            component=component,
            want=wanted(self.want),
            start=place.message(start),
            max_in_flight_events=self.max_in_flight_events,
            max_in_flight_bytes=self.max_in_flight_bytes,
            max_group_events=self.max_group_events,
            conflict_policy=push_pb2.ConflictPolicy.ValueType(conflict),
            client_label=self.label,
        )
        if self.max_linger is not None:
            request.max_linger.FromTimedelta(self.max_linger)
        if self.heartbeat_interval is not None:
            request.heartbeat_interval.FromTimedelta(self.heartbeat_interval)
        return request


def wanted(types: Sequence[str] | None) -> types_pb2.Want | None:
    """`types` as a field."""
    if types is None:
        return None
    if isinstance(types, str):
        raise ValueError("want: must be a list of types")
    return types_pb2.Want(types=[checked_type(type_) for type_ in types])
