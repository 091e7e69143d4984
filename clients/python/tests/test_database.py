"""Events in the transactions of every database library, delivered by the service of that database."""

from typing import Any

import pytest
from libraries import SHOPS

from futoin_eventstream import EventStream, InvalidEvent, JsonText, Start

DATA = {"big": 9007199254740993, "text": "non-BMP 😀, \"double\", 'single', back\\slash, %s :name ? $1"}
TEXT = JsonText('{"big": 9007199254740993 , "exact":1.50,"e":"\\ud83d\\ude00 😀"}')

pytestmark = pytest.mark.parametrize("library", SHOPS)


class Rollback(Exception):
    """Raised in a transaction, to end it."""


async def received(service: str, component: str, type: str, count: int) -> list[str]:
    """The data of the next events, which are there or will be."""
    texts: list[str] = []
    async with EventStream(service) as stream:

        async def handle(event: Any) -> None:
            texts.append(event.data_json)
            if len(texts) == count:
                receiver.stop()

        receiver = stream.receive(component, handle, want=[type])
        await receiver.run()
    return texts


def names(library: str) -> tuple[str, str, str]:
    """A component, a type and a table that nobody else has."""
    number = list(SHOPS).index(library)
    return f"P_DB_{number}", f"P_DB_{chr(ord('A') + number)}", f"p_orders_{number}"


async def test_commit_delivers_and_rollback_does_not(library: str) -> None:
    database, place = SHOPS[library]
    component, type, table = names(library)
    async with EventStream(database.service) as stream:
        await stream.register(component, Start.NOW)
    with pytest.raises(Rollback):
        async with place(table, type, {"rolled": "back"}):
            raise Rollback
    async with place(table, type, DATA):
        pass
    async with place(table, type, TEXT):
        pass
    first, second = await received(database.service, component, type, 2)
    assert first == (
        '{"big":9007199254740993,"text":"non-BMP 😀, \\"double\\", \'single\', back\\\\slash, %s :name ? $1"}'
    )
    assert second == TEXT


@pytest.mark.parametrize(
    ("field", "rule", "type", "data"),
    [
        ("type", "must match ^[A-Z_]{1,16}$", "lower", 1),
        ("type", "must match ^[A-Z_]{1,16}$", "A" * 17, 1),
        ("data", "must be at most 8388608 bytes", "P_BAD", "x" * (8 * 1024 * 1024)),
        ("data", "must be well-formed JSON", "P_BAD", JsonText('{"a":}')),
        ("data", "must be well-formed JSON", "P_BAD", float("nan")),
        ("data", "must be well-formed JSON", "P_BAD", object()),
        ("data", "must be well-formed JSON", "P_BAD", "\ud800"),
    ],
)
async def test_refused_before_the_insert(library: str, field: str, rule: str, type: str, data: Any) -> None:
    _, place = SHOPS[library]
    _, _, table = names(library)
    with pytest.raises(InvalidEvent) as refused:
        async with place(table, type, data):
            pytest.fail("it was inserted")
    assert refused.value.field == field
    assert refused.value.rule.startswith(rule)
