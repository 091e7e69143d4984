"""Calls the handler, and does what the policy says when it fails."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence

from . import tracing
from .backlog import Unit
from .backoff import Backoff
from .errors import HandlerFailed
from .events import Event
from .flag import Flag
from .policies import DeadLetter, FailurePolicy, Stop

log = logging.getLogger("futoin_eventstream")

EventHandler = Callable[[Event], Awaitable[None]]
"""Gets one event at a time."""
GroupHandler = Callable[[Sequence[Event]], Awaitable[None]]
"""Gets the events that the service sent together."""


class Handling:
    """A handler under a policy. It outlives sessions, and so do its counts of failed attempts."""

    def __init__(
        self,
        call: Callable[[Sequence[Event]], Awaitable[None]],
        component: str,
        policy: FailurePolicy,
        backoff: Backoff,
    ) -> None:
        self._plain = call
        self._call = call
        self._component = component
        self._policy = policy
        self._backoff = backoff
        # By the first event of a unit that has failed and is not done.
        self._failures: dict[int, int] = {}

    def trace(self) -> None:
        """Begins or ends to make spans, as the application has tracing now."""
        self._call = tracing.traced(self._plain, self._component)

    async def handle(self, unit: Unit, over: Flag) -> bool:
        """True when the unit is done, False when it was given up because the session is over."""
        while True:
            try:
                await self._call(unit.events)
            except Exception as error:
                if await self._failed(unit, error):
                    return True
            else:
                if self._failures:
                    self._failures.pop(unit.events[0].id, None)
                return True
            if await over.within(self._backoff.delay(self._failures[unit.events[0].id]).total_seconds()):
                return False

    async def _failed(self, unit: Unit, error: Exception) -> bool:
        """True when a failed unit is done nevertheless."""
        event = unit.events[0]
        attempt = self._failures[event.id] = self._failures.get(event.id, 0) + 1
        log.warning("handler of %s failed for event %d, attempt %d", self._component, event.id, attempt, exc_info=error)
        if isinstance(self._policy, Stop):
            raise HandlerFailed(event) from error
        if not isinstance(self._policy, DeadLetter) or attempt < self._policy.attempts:
            return False
        try:
            for event in unit.events:
                given = self._policy.callback(event, error)
                if inspect.isawaitable(given):
                    await given
        except Exception:
            log.exception("dead letter callback of %s failed for event %d", self._component, event.id)
            return False
        del self._failures[unit.events[0].id]
        return True
