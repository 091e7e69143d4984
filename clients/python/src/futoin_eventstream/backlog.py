"""What a session has received and not finished: pure bookkeeping, without any waiting.

A unit is what one call of the handler gets. Units of one key are handed out
one after another in their order; the position has no unfinished unit below it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence

from .events import Event


class Unit:
    """Events for one call of the handler, and the position when they are done."""

    __slots__ = ("done", "events", "key", "last_id")

    def __init__(self, events: Sequence[Event], last_id: int, key: Hashable = None) -> None:
        self.events = events
        self.last_id = last_id
        self.key = key
        self.done = False


class Backlog:
    """Units in the order of their ids."""

    def __init__(self, key: Callable[[Event], Hashable] | None, *, by_group: bool) -> None:
        self._key = key
        self._by_group = by_group
        self._unfinished: deque[Unit] = deque()
        self._lanes: dict[Hashable, deque[Unit]] = {}
        self._ready: deque[Unit] = deque()
        self.position = 0
        """The id up to which everything is done; 0: nothing yet."""

    def add(self, events: Sequence[Event], last_id: int) -> None:
        """Takes a group."""
        if self._by_group and events:
            self._add(Unit(events, last_id))
            return
        for event in events:
            self._add(Unit((event,), event.id, self._key(event) if self._key else None))
        # What was filtered out behind the last event counts as done with it.
        end = Unit((), last_id)
        self._unfinished.append(end)
        self.finish(end)

    def take(self) -> Unit | None:
        """The next unit that may be handled now."""
        return self._ready.popleft() if self._ready else None

    def finish(self, unit: Unit) -> None:
        """Notes that a unit is done, and lets the next one of its key go."""
        unit.done = True
        unfinished = self._unfinished
        while unfinished and unfinished[0].done:
            self.position = unfinished.popleft().last_id
        if not unit.events:
            return
        lane = self._lanes[unit.key]
        if lane:
            self._ready.append(lane.popleft())
        else:
            del self._lanes[unit.key]

    def _add(self, unit: Unit) -> None:
        self._unfinished.append(unit)
        lane = self._lanes.get(unit.key)
        if lane is None:
            self._lanes[unit.key] = deque()
            self._ready.append(unit)
        else:
            lane.append(unit)
