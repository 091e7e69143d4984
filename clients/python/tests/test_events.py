"""The rules of events, and the pure parts of the receivers."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from futoin.evt.v1 import types_pb2
from futoin_eventstream import Backoff, DeadLetter, Event, InvalidEvent, JsonText, NewEvent, Start, add_event
from futoin_eventstream.backlog import Backlog
from futoin_eventstream.events import checked_json, checked_table
from futoin_eventstream.options import ReceiverOptions, Settings


def event(id: int, data: str = "null") -> Event:
    return Event(types_pb2.Event(id=id, type="TEST", data_json=data))


def test_an_event_can_be_added_again_to_the_letter() -> None:
    text = '{"a": 1.0 , "b":12345678901234567890123}'
    assert NewEvent("TEST", event(1, text).data_json).to_message().data_json == text


def test_data_keeps_integers_exact() -> None:
    assert event(1, "[9007199254740993]").data == [9007199254740993]


def test_a_string_is_a_value_and_json_text_is_not() -> None:
    assert checked_json("[1]") == '"[1]"'
    assert checked_json(JsonText("[1]")) == "[1]"


@pytest.mark.parametrize("text", ["", "NaN", "[1", "{'a':1}", "1 2", "-Infinity", "[" * 100_000])
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidEvent, match=r"^data: must be well-formed JSON"):
        checked_json(JsonText(text))


def test_numbers_of_any_length_are_well_formed() -> None:
    assert checked_json(JsonText("1" * 10_000)) == "1" * 10_000


def test_the_largest_data_is_accepted() -> None:
    largest = "é" * (4 * 1024 * 1024 - 1)
    assert json.loads(checked_json(largest)) == largest
    with pytest.raises(InvalidEvent, match="at most 8388608 bytes, not 8388610"):
        checked_json(largest + "é")


def test_table_names() -> None:
    assert checked_table("app.evt_queue_2") == "app.evt_queue_2"
    for name in ("", "a.b.c", ".a", "a.", "a b", "a;", 'a"', "ä", "a\n"):
        with pytest.raises(InvalidEvent, match=r"^table: "):
            checked_table(name)


def test_types() -> None:
    for type in ("", "a", "A1", "A" * 17, "A\n"):
        with pytest.raises(InvalidEvent, match=r"^type: "):
            NewEvent(type, 1).to_message()


def test_unknown_connections_are_refused() -> None:
    with pytest.raises(TypeError, match=r"no known database connection: builtins\.object"):
        add_event(object(), "TEST", 1)


def test_backoff_grows_to_its_maximum_and_obeys_the_service() -> None:
    backoff = Backoff(timedelta(milliseconds=100), timedelta(seconds=1))
    for attempt, whole in ((1, 0.1), (2, 0.2), (4, 0.8), (5, 1.0), (1000, 1.0)):
        delays = [backoff.delay(attempt).total_seconds() for _ in range(200)]
        assert whole / 2 <= min(delays) < max(delays) <= whole
    assert backoff.delay(1, timedelta(seconds=7)) == timedelta(seconds=7)


def test_starts() -> None:
    assert Start.after(0).to_message().WhichOneof("at") == "after_id"
    assert Start.NOW.to_message().now
    time = datetime(2026, 11, 22, 12, tzinfo=timezone(timedelta(hours=2)))
    assert Start.at(time).to_message().time.ToDatetime(timezone.utc) == time
    with pytest.raises(ValueError, match="time zone"):
        Start.at(datetime(2026, 11, 22))


def test_options_have_the_same_names_everywhere() -> None:
    assert set(ReceiverOptions.__annotations__) == set(Settings.__dataclass_fields__)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": 2},
        {"replay": True},
        {"replay": True, "start": Start.NOW},
        {"want": "ORDER"},
        {"want": ["order"]},
    ],
)
def test_options_that_make_no_sense(options: ReceiverOptions) -> None:
    with pytest.raises(ValueError, match=": "):
        Settings(**options)


def test_a_dead_letter_needs_an_attempt() -> None:
    with pytest.raises(ValueError, match="attempts"):
        DeadLetter(print, attempts=0)


def test_the_position_has_no_gap_below_it() -> None:
    backlog = Backlog(lambda event: event.id % 2, by_group=False)
    backlog.add([event(1), event(2), event(3), event(4)], 9)
    one, two = backlog.take(), backlog.take()
    assert backlog.take() is None
    backlog.finish(two)
    four = backlog.take()
    backlog.finish(four)
    assert backlog.position == 0
    backlog.finish(one)
    assert backlog.position == 2
    backlog.finish(backlog.take())
    assert backlog.position == 9
    backlog.add([], 12)
    assert backlog.position == 12


def test_a_group_is_one_unit() -> None:
    backlog = Backlog(None, by_group=True)
    backlog.add([event(1), event(2)], 5)
    unit = backlog.take()
    assert [event.id for event in unit.events] == [1, 2]
    backlog.finish(unit)
    assert backlog.position == 5
