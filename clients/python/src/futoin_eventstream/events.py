"""Events, and the rules that they keep before they are sent or inserted."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NoReturn

from futoin.evt.v1 import types_pb2

from .errors import InvalidEvent

MAX_DATA_BYTES = 8 * 1024 * 1024
"""Bytes of one event's data as UTF-8."""

_TYPE = re.compile(r"[A-Z_]{1,16}")
_TABLE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")


class JsonText(str):
    """Data that is JSON text already: it is checked and stored to the letter.

    Any other `str` is a value, stored as a JSON string.
    """

    __slots__ = ()


class Event:
    """One event of the stream, never changed by anybody."""

    __slots__ = ("_message", "id", "type")

    def __init__(self, message: types_pb2.Event) -> None:
        self._message = message
        self.id: int = message.id
        """Its place in the stream: growing, with gaps."""
        self.type: str = message.type
        """`[A-Z_]{1,16}`."""

    @property
    def data_json(self) -> JsonText:
        """The data, to the letter as it was stored."""
        return JsonText(self._message.data_json)

    @property
    def data(self) -> Any:
        """The data, parsed anew at each use. Integers of any size are exact."""
        return json.loads(self._message.data_json)

    @property
    def ts(self) -> datetime | None:
        """When it was stored by the database's clock, in UTC: for reference, never an order."""
        if not self._message.HasField("ts"):
            return None
        return self._message.ts.ToDatetime(timezone.utc)

    def __repr__(self) -> str:
        return f"Event(id={self.id}, type={self.type!r}, data_json={self._message.data_json!r})"


@dataclass(frozen=True)
class NewEvent:
    """An event to be added."""

    type: str
    """`[A-Z_]{1,16}`."""
    data: Any
    """A value that `json.dumps` takes, or `JsonText`."""

    def to_message(self) -> types_pb2.NewEvent:
        """The checked form that is sent."""
        return types_pb2.NewEvent(type=checked_type(self.type), data_json=checked_json(self.data))


def checked_type(type_: str) -> str:
    """`type_`, if it is one."""
    if not isinstance(type_, str) or not _TYPE.fullmatch(type_):
        raise InvalidEvent("type", "must match ^[A-Z_]{1,16}$")
    return type_


def checked_table(table: str) -> str:
    """`table`, if it is safe to be a part of a statement."""
    if not _TABLE.fullmatch(table):
        raise InvalidEvent("table", "must be letters, digits, _ and at most one . between them")
    return table


def checked_json(data: Any) -> str:
    """The text of `data`: well-formed JSON, no longer than it may be."""
    try:
        if isinstance(data, JsonText):
            # Numbers stay text: neither their size nor their digits matter here.
            json.loads(data, parse_int=str, parse_float=str, parse_constant=_no_constant)
            text = str(data)
        else:
            text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent("data", f"must be well-formed JSON: {error}") from error
    if size > MAX_DATA_BYTES:
        raise InvalidEvent("data", f"must be at most {MAX_DATA_BYTES} bytes, not {size}")
    return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
