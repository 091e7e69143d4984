"""Something that happens once: a stop, the end of a session."""

from __future__ import annotations

import asyncio
from typing import Any


class Flag:
    """Something that happens once and can be waited for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """It has happened."""
        self._event.set()

    async def wait(self) -> None:
        """Until it happens."""
        await self._event.wait()

    async def within(self, seconds: float) -> bool:
        """Waits no longer than that; True if it has happened."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    async def before(self, future: asyncio.Future[Any]) -> bool:
        """Waits for it or for `future`, which goes on; True if `future` is done."""
        waiting = asyncio.create_task(self._event.wait())
        try:
            await asyncio.wait((future, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return future.done()
