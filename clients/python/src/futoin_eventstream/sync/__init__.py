"""The client for threads: the same words and rules as in `futoin_eventstream`, without `await`.

It is a thin cover: an event loop in a thread of its own does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any
from uuid import UUID

from typing_extensions import Unpack

from futoin.evt.v1 import admin_pb2, types_pb2

from .. import client
from ..backoff import Backoff
from ..connection import Tls, Token
from ..events import Event, NewEvent
from ..importing import ImportResult
from ..options import ReceiverOptions, StreamOptions
from ..start import Start
from .loop import LoopThread
from .receivers import Jobs, LiveReceiver, ReliableReceiver

__all__ = ["EventStream", "LiveReceiver", "ReliableReceiver"]


class EventStream:
    """A client of the service; `with EventStream(address) as stream: ...`. Threads may share it.

    Everything is as in `futoin_eventstream.EventStream`.
    """

    def __init__(
        self,
        address: str = client.DEFAULT_ADDRESS,
        *,
        token: Token | None = None,
        tls: Tls | None = None,
        timeout: timedelta = client.DEFAULT_TIMEOUT,
        backoff: Backoff = Backoff(),  # noqa: B008 (frozen)
    ) -> None:
        """Connects when it is first used."""
        self._stream = client.EventStream(address, token=token, tls=tls, timeout=timeout, backoff=backoff)
        self._thread = LoopThread()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection and what is open on it."""
        self._thread.close(self._stream.close)

    def add_event(
        self, type: str, data: Any, *, request_id: UUID | None = None, timeout: timedelta | None = None
    ) -> int:
        """Adds one event and returns its id, once it is durable."""
        return self._thread.call(self._stream.add_event(type, data, request_id=request_id, timeout=timeout))

    def add_events(
        self, events: Iterable[NewEvent], *, request_id: UUID | None = None, timeout: timedelta | None = None
    ) -> list[int]:
        """Adds 1 to 1000 events in one transaction, all or none, and returns their ids."""
        return self._thread.call(self._stream.add_events(events, request_id=request_id, timeout=timeout))

    def import_events(
        self, events: Iterable[NewEvent], *, request_id: UUID | None = None, timeout: timedelta | None = None
    ) -> ImportResult:
        """Adds any number of events in order, in transactions of up to 1000."""
        return self._thread.call(self._stream.import_events(events, request_id=request_id, timeout=timeout))

    def receive(
        self, component: str, handler: Callable[[Event], None], **options: Unpack[ReceiverOptions]
    ) -> ReliableReceiver:
        """A receiver that hands every event of `component` to `handler`, in order, at least once.

        For instance `stream.receive("SHOP", handle).run()`.
        """
        jobs = Jobs(self._thread.loop)
        call = jobs.handed_over(handler)
        return ReliableReceiver(
            self._thread, jobs, options, lambda **given: self._stream.receive(component, call, **given)
        )

    def receive_groups(
        self, component: str, handler: Callable[[Sequence[Event]], None], **options: Unpack[ReceiverOptions]
    ) -> ReliableReceiver:
        """The same with a handler of groups: the events that the service sent together, at least one."""
        jobs = Jobs(self._thread.loop)
        call = jobs.handed_over(handler)
        return ReliableReceiver(
            self._thread, jobs, options, lambda **given: self._stream.receive_groups(component, call, **given)
        )

    def live(self, **options: Unpack[StreamOptions]) -> LiveReceiver:
        """An iterator over what happens from now on, which may miss events and counts them."""
        return LiveReceiver(self._thread, lambda: self._stream.live(**options))

    def poll(
        self,
        component: str,
        *,
        want: Sequence[str] | None = None,
        max_events: int = 0,
        max_wait: timedelta | None = None,
        register: bool = True,
        start: Start | None = None,
    ) -> Iterator[Event]:
        """Iterates over the events after the consumer's position, as the client for asyncio does."""
        pages = self._stream.poll_pages(
            component, want=want, max_events=max_events, max_wait=max_wait, register=register, start=start
        )
        for page in self._thread.iterate(pages):
            yield from page

    def register(self, component: str, start: Start | None = None) -> types_pb2.Consumer:
        """Registers a consumer, at the oldest event kept unless told otherwise. Repeating it changes nothing."""
        return self._thread.call(self._stream.register(component, start))

    def unregister(self, component: str, *, user: str = "") -> None:
        """Forgets a consumer, so that its position no longer holds events back."""
        self._thread.call(self._stream.unregister(component, user=user))

    def consumers(self) -> Iterator[types_pb2.Consumer]:
        """Iterates over the consumers that the caller may see."""
        return self._thread.iterate(self._stream.consumers())

    def seek(self, component: str, start: Start, *, user: str = "") -> types_pb2.Consumer:
        """Moves a consumer's position, backwards too, and ends its session."""
        return self._thread.call(self._stream.seek(component, start, user=user))

    def status(self) -> admin_pb2.GetStatusResponse:
        """The stream at a glance."""
        return self._thread.call(self._stream.status())

    def skip_frontier(self, to: int, *, accept_loss: bool, reason: str) -> admin_pb2.SkipFrontierResponse:
        """Lets the frontier pass ids whose transaction cannot be ended: what of them is not visible is lost."""
        return self._thread.call(self._stream.skip_frontier(to, accept_loss=accept_loss, reason=reason))
