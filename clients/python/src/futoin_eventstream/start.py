"""Places in the stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from futoin.evt.v1 import types_pb2


@dataclass(frozen=True)
class Start:
    """Where to start: `Start.after(id)`, `Start.at(time)` or `Start.NOW`."""

    id: int | None = None
    time: datetime | None = None

    NOW: ClassVar[Start]
    """Only what is settled from now on."""

    @classmethod
    def after(cls, id: int) -> Start:
        """After this event; after 0 is before the oldest event kept, archive included."""
        return cls(id=id)

    @classmethod
    def at(cls, time: datetime) -> Start:
        """Before the first event of this time or later; `time` has a time zone."""
        if time.tzinfo is None:
            raise ValueError("time: must have a time zone")
        return cls(time=time)

    def to_message(self) -> types_pb2.StartAt:
        """The form that is sent."""
        if self.id is not None:
            return types_pb2.StartAt(after_id=self.id)
        if self.time is None:
            return types_pb2.StartAt(now=True)
        place = types_pb2.StartAt()
        place.time.FromDatetime(self.time)
        return place


Start.NOW = Start()


def message(start: Start | None) -> types_pb2.StartAt | None:
    """`start` as a field: unset where it is not given."""
    return None if start is None else start.to_message()
