"""Receivers for threads: those of asyncio, with the handler called in the user's threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from ..events import Event
from ..live import LiveReceiver as AsyncLiveReceiver
from ..options import ReceiverOptions
from ..policies import DeadLetter
from ..receiver import ReliableReceiver as AsyncReliableReceiver
from .loop import LoopThread


class Jobs:
    """Calls that the event loop waits for and that other threads make."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def handed_over(self, function: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
        """`function` as the event loop calls it: it runs in one of the threads that `work`."""

        async def call(*arguments: Any) -> None:
            done = self._loop.create_future()
            # Spans and the like of the loop are those of the handler.
            run = contextvars.copy_context().run
            self._queue.put(lambda: self._finish(done, lambda: run(function, *arguments)))
            await done

        return call

    def work(self) -> None:
        """Makes calls until `end`."""
        while job := self._queue.get():
            job()

    def end(self) -> None:
        """Lets one thread leave `work`."""
        self._queue.put(None)

    def _finish(self, done: asyncio.Future[None], call: Callable[[], Any]) -> None:
        error: Exception | None = None
        try:
            call()
        except Exception as failure:
            error = failure

        def tell() -> None:
            if done.cancelled():
                return
            if error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(tell)


class ReliableReceiver:
    """Made by `EventStream.receive` or `receive_groups`; runs once.

    `run` receives until the receiver is stopped or fails, and calls the handler in the thread that called it (and in
    others beside it, for more `workers`). As a context, `with receiver:`, it runs in another thread beside the block
    and is stopped at its end. Hooks and `key` are called in a thread of the client and must not block.
    """

    def __init__(
        self, thread: LoopThread, jobs: Jobs, options: ReceiverOptions, make: Callable[..., AsyncReliableReceiver]
    ) -> None:
        policy = options.get("on_failure")
        if isinstance(policy, DeadLetter):
            options = {**options, "on_failure": replace(policy, callback=jobs.handed_over(policy.callback))}
        self._workers = options.get("workers", 1)
        self._thread = thread
        self._jobs = jobs
        self._receiver: AsyncReliableReceiver = thread.call(_made(make, options))
        self._running: Future[None] | None = None
        self._beside: threading.Thread | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Receives until `stop`. Raises `ServiceError` or `HandlerFailed` when going on makes no sense."""
        running = self._running = self._thread.start(self._receiver.run())
        others = [threading.Thread(target=self._jobs.work, daemon=True) for _ in range(self._workers - 1)]
        running.add_done_callback(lambda _: self._let_go())
        for other in others:
            other.start()
        try:
            self._jobs.work()
        finally:
            # Left by an interrupt, which nobody but this thread has noticed.
            running.cancel()
        for other in others:
            other.join()
        running.result()

    def stop(self) -> None:
        """Takes no further event; `run` finishes what the handler is at, acknowledges and returns. For any thread."""
        self._thread.loop.call_soon_threadsafe(self._receiver.stop)

    def cancel(self) -> None:
        """Acknowledges nothing more; `run` raises `concurrent.futures.CancelledError` when the handler returns."""
        if self._running:
            self._running.cancel()

    def close(self) -> None:
        """Stops, and waits for the end of the context's run. Raises what that raised."""
        self.stop()
        if self._beside:
            self._beside.join()
        if self._error:
            raise self._error

    def __enter__(self) -> ReliableReceiver:
        self._beside = threading.Thread(target=self._run_beside, name="futoin_eventstream receiver")
        self._beside.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run_beside(self) -> None:
        try:
            self.run()
        except (Exception, CancelledError) as error:
            self._error = error

    def _let_go(self) -> None:
        for _ in range(self._workers):
            self._jobs.end()


class LiveReceiver:
    """Made by `EventStream.live`: `with stream.live() as live: for event in live: ...`."""

    def __init__(self, thread: LoopThread, make: Callable[[], AsyncLiveReceiver]) -> None:
        self._thread = thread
        self._receiver: AsyncLiveReceiver = thread.call(_made(make, {}))
        self._events: deque[Event] = deque()

    @property
    def dropped(self) -> int:
        """Events that the service left out because this receiver was too slow, so far."""
        return self._receiver.dropped

    def stop(self) -> None:
        """Ends the iteration. For any thread."""
        self._thread.loop.call_soon_threadsafe(self._receiver.stop)

    def close(self) -> None:
        """Stops, and closes the stream."""
        self._thread.call(self._receiver.close())

    def __enter__(self) -> LiveReceiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while not self._events and not self._receiver.stopped:
            self._events.extend(self._thread.call(self._receiver.next_group()))
        if self._receiver.stopped:
            self.close()
            raise StopIteration
        return self._events.popleft()


async def _made(make: Callable[..., Any], options: Any) -> Any:
    # In the loop, to which the connection belongs.
    return make(**options)
