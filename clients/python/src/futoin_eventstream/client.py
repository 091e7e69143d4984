"""The client: one connection to the service, and everything that can be asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any
from uuid import UUID, uuid4

from typing_extensions import Unpack

from futoin.evt.v1 import admin_pb2, gen_pb2, poll_pb2, types_pb2

from . import start as place
from .backoff import Backoff
from .connection import Connection, Method, Request, Response, Tls, Token
from .events import Event, NewEvent
from .importing import Import, ImportResult
from .live import LiveReceiver
from .options import ReceiverOptions, StreamOptions, wanted
from .receiver import ReliableReceiver
from .start import Start

DEFAULT_ADDRESS = "http://127.0.0.1:50051"
DEFAULT_TIMEOUT = timedelta(seconds=30)


class EventStream:
    """A client of the service; `async with EventStream(address) as stream: ...`.

    Calls that may be repeated without harm are repeated while the service is
    not reached or refuses for now, until their `timeout`. All raise
    `ServiceError`, and `InvalidEvent` before anything is sent.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: Token | None = None,
        tls: Tls | None = None,
        timeout: timedelta = DEFAULT_TIMEOUT,
        backoff: Backoff = Backoff(),  # noqa: B008 (frozen)
    ) -> None:
        """Connects when it is first used.

        `address` is `http://HOST:PORT`, `https://HOST:PORT`, `unix:PATH` or `HOST:PORT`; `token` a bearer token, or a
        function that gives one for each call; `timeout` the limit of a call with all its repetitions.
        """
        self._address = address
        self._tls = tls
        self._token = token
        self._timeout = timeout
        self._backoff = backoff
        self._opened: Connection | None = None

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection and what is open on it."""
        if self._opened:
            await self._opened.close()

    # Adding

    async def add_event(
        self, type: str, data: Any, *, request_id: UUID | None = None, timeout: timedelta | None = None
    ) -> int:
        """Adds one event and returns its id, once it is durable.

        The same `request_id` again adds nothing and returns the first id; one is made if none is given.
        """
        new = NewEvent(type, data).to_message()
        request = gen_pb2.AddEventRequest(type=new.type, data_json=new.data_json, request_id=str(request_id or uuid4()))
        return (await self._repeat(self._connection.gen.AddEvent, request, timeout)).id

    async def add_events(
        self, events: Iterable[NewEvent], *, request_id: UUID | None = None, timeout: timedelta | None = None
    ) -> list[int]:
        """Adds 1 to 1000 events in one transaction, all or none, and returns their ids."""
        request = gen_pb2.AddEventsRequest(
            events=[event.to_message() for event in events], request_id=str(request_id or uuid4())
        )
        return list((await self._repeat(self._connection.gen.AddEvents, request, timeout)).ids)

    async def import_events(
        self,
        events: Iterable[NewEvent] | AsyncIterable[NewEvent],
        *,
        request_id: UUID | None = None,
        timeout: timedelta | None = None,
    ) -> ImportResult:
        """Adds any number of events in order, in transactions of up to 1000.

        Raises `ImportStopped`, which tells how far it came. The same events with the same `request_id` within the
        service's window go on from there. `timeout` is that of each call; a call carries several transactions.
        """
        return await Import(self._connection, request_id or uuid4(), timeout or self._timeout).run(events)

    # Receiving

    def receive(
        self, component: str, handler: Callable[[Event], Awaitable[None]], **options: Unpack[ReceiverOptions]
    ) -> ReliableReceiver:
        """A receiver that hands every event of `component` to `handler`, in order, at least once.

        For instance `await stream.receive("SHOP", handle).run()`.
        """

        async def each(events: Sequence[Event]) -> None:
            await handler(events[0])

        return ReliableReceiver(self._connection, component, each, by_group=False, **options)

    def receive_groups(
        self,
        component: str,
        handler: Callable[[Sequence[Event]], Awaitable[None]],
        **options: Unpack[ReceiverOptions],
    ) -> ReliableReceiver:
        """The same with a handler of groups: the events that the service sent together, at least one."""
        return ReliableReceiver(self._connection, component, handler, by_group=True, **options)

    def live(self, **options: Unpack[StreamOptions]) -> LiveReceiver:
        """An iterator over what happens from now on, which may miss events and counts them."""
        return LiveReceiver(self._connection, **options)

    async def poll(
        self,
        component: str,
        *,
        want: Sequence[str] | None = None,
        max_events: int = 0,
        max_wait: timedelta | None = None,
        register: bool = True,
        start: Start | None = None,
    ) -> AsyncIterator[Event]:
        """Iterates over the events after the consumer's position.

        Asking for the next event acknowledges those before it, when the service is asked the next time; leaving the
        loop early acknowledges nothing. Without `max_wait` it ends when there is no event; with it, it waits so long
        with each call, and never ends.
        """
        pages = self.poll_pages(
            component, want=want, max_events=max_events, max_wait=max_wait, register=register, start=start
        )
        async for page in pages:
            for event in page:
                yield event

    async def poll_pages(
        self,
        component: str,
        *,
        want: Sequence[str] | None = None,
        max_events: int = 0,
        max_wait: timedelta | None = None,
        register: bool = True,
        start: Start | None = None,
    ) -> AsyncIterator[Sequence[Event]]:
        """The same by the page: what one answer brought."""
        if register:
            await self.register(component, start)
        request = poll_pb2.PollEventsRequest(component=component, want=wanted(want), max_events=max_events)
        if max_wait is not None:
            request.max_wait.FromTimedelta(max_wait)
        timeout = self._timeout + (max_wait or timedelta())
        while True:
            page = await self._repeat(self._connection.poll.PollEvents, request, timeout)
            if page.events:
                yield [Event(message) for message in page.events]
            # What was filtered out is acknowledged too.
            at_end = not page.more and page.last_id == request.last_id
            request.last_id, request.epoch = page.last_id, page.epoch
            if at_end and max_wait is None:
                return

    # Consumers and the state of the stream

    async def register(self, component: str, start: Start | None = None) -> types_pb2.Consumer:
        """Registers a consumer, at the oldest event kept unless told otherwise. Repeating it changes nothing."""
        request = poll_pb2.RegisterConsumerRequest(component=component, start=place.message(start))
        return (await self._repeat(self._connection.poll.RegisterConsumer, request)).consumer

    async def unregister(self, component: str, *, user: str = "") -> None:
        """Forgets a consumer, so that its position no longer holds events back."""
        request = admin_pb2.UnregisterConsumerRequest(component=component, user=user)
        await self._once(self._connection.admin.UnregisterConsumer, request)

    async def consumers(self) -> AsyncIterator[types_pb2.Consumer]:
        """Iterates over the consumers that the caller may see."""
        request = admin_pb2.ListConsumersRequest()
        while True:
            page = await self._repeat(self._connection.admin.ListConsumers, request)
            for consumer in page.consumers:
                yield consumer
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def seek(self, component: str, start: Start, *, user: str = "") -> types_pb2.Consumer:
        """Moves a consumer's position, backwards too, and ends its session."""
        request = admin_pb2.SeekConsumerRequest(component=component, user=user, start=start.to_message())
        return (await self._once(self._connection.admin.SeekConsumer, request)).consumer

    async def status(self) -> admin_pb2.GetStatusResponse:
        """The stream at a glance."""
        return await self._repeat(self._connection.admin.GetStatus, admin_pb2.GetStatusRequest())

    async def skip_frontier(self, to: int, *, accept_loss: bool, reason: str) -> admin_pb2.SkipFrontierResponse:
        """Lets the frontier pass ids whose transaction cannot be ended: what of them is not visible is lost."""
        request = admin_pb2.SkipFrontierRequest(to=to, accept_loss=accept_loss, reason=reason)
        return await self._once(self._connection.admin.SkipFrontier, request)

    @property
    def _connection(self) -> Connection:
        # Not made before there is an event loop, which the channel belongs to.
        if self._opened is None:
            asyncio.get_running_loop()
            self._opened = Connection(self._address, tls=self._tls, token=self._token, backoff=self._backoff)
        return self._opened

    async def _repeat(
        self, method: Method[Request, Response], request: Request, timeout: timedelta | None = None
    ) -> Response:
        return await self._connection.call_repeatedly(method, request, timeout or self._timeout)

    async def _once(self, method: Method[Request, Response], request: Request) -> Response:
        return await self._connection.call(method, request, self._timeout)
