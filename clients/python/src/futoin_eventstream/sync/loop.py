"""An event loop in a thread of its own, which does the work of the synchronous client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class LoopThread:
    """Started when it is made, ended by `close`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="futoin_eventstream", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Begins `work` there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Does `work` there, and waits for its result."""
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            # Interrupted while waiting: nobody wants it any more.
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[Result]) -> Iterator[Result]:
        """Iterates over `items`, each of which is fetched there."""

        async def following() -> tuple[bool, Any]:
            try:
                return True, await anext(items)
            except StopAsyncIteration:
                return False, None

        while True:
            more, item = self.call(following())
            if not more:
                return
            yield item

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Does `last` there and ends the thread. Again: nothing."""
        if self._thread.is_alive():
            self.call(last())
            self.call(self.loop.shutdown_asyncgens())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()
