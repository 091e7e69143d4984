"""Every case of clients/conformance, by the receivers of asyncio."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from environment import given
from scripted import CASES, Plan, error_of, line, options_of

from futoin_eventstream import Event, EventStream, LiveReceiver, ReliableReceiver


class Player:
    """A receiver of a case."""

    def __init__(self, spec: dict[str, Any], address: str, reports: asyncio.StreamWriter) -> None:
        self._spec = spec
        self._stream = EventStream(address)
        self._reports = reports
        self._plan = Plan(spec)
        self._release = asyncio.Semaphore(0)
        self._receiver: ReliableReceiver | LiveReceiver | None = None
        self.task: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()

    def tell(self, word: str) -> None:
        if word == "start":
            self.task = asyncio.create_task(self._play())
        elif word == "release":
            self._release.release()
        elif word == "cancel":
            self.task.cancel()
        else:
            self._receiver.stop()

    async def _play(self) -> None:
        try:
            error = await self._outcome()
            self._report(did="ended", error=error_of(error))
        finally:
            self.ended.set()

    async def _outcome(self) -> Exception | None:
        try:
            await (self._live() if self._spec["kind"] == "live" else self._reliable())
        except asyncio.CancelledError:
            return None
        except Exception as error:
            return error
        finally:
            await self._stream.close()
        return None

    async def _reliable(self) -> None:
        options = options_of(self._spec, self._report, self._dead_letter)
        words = self._spec["options"]
        if words.get("by") == "group":
            self._receiver = self._stream.receive_groups(words["component"], self._handle, **options)
        else:
            self._receiver = self._stream.receive(words["component"], lambda event: self._handle([event]), **options)
        await self._receiver.run()

    async def _live(self) -> None:
        options = options_of(self._spec, self._report, None)
        dropped = 0
        async with self._stream.live(**options) as live:
            self._receiver = live
            async for event in live:
                if live.dropped != dropped:
                    dropped = live.dropped
                    self._report(did="dropped", count=dropped)
                await self._handle([event])

    async def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            self._report(did="handle", id=event.id)
            if self._plan.waits(event):
                await self._release.acquire()
            self._plan.work(event)
            self._report(did="handled", id=event.id)

    async def _dead_letter(self, event: Event, _error: Exception) -> None:
        self._report(did="dead_letter", id=event.id)
        self._plan.dead_letter(event)

    def _report(self, **report: Any) -> None:
        self._reports.write(line(self._spec["name"], **report))


@pytest.mark.parametrize("case", CASES)
async def test_case(case: str) -> None:
    script = await asyncio.create_subprocess_exec(
        given("TEST_SCRIPTED"),
        "--case",
        case,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    opening = json.loads(await script.stdout.readline())
    players = {spec["name"]: Player(spec, opening["address"], script.stdin) for spec in opening["receivers"]}
    for spec in opening["receivers"]:
        if not spec.get("wait"):
            players[spec["name"]].tell("start")
    telling = asyncio.create_task(_tell(script.stdout, players))
    ending = asyncio.create_task(_all_ended(players))
    # A script that judged early tells nothing more.
    await asyncio.wait((telling, ending), return_when=asyncio.FIRST_COMPLETED)
    script.stdin.close()
    verdict = (await script.stderr.read()).decode()
    code = await script.wait()
    playing = [player.task for player in players.values() if player.task]
    for task in (telling, ending, *playing):
        task.cancel()
    outcomes = await asyncio.gather(*playing, return_exceptions=True)
    assert code == 0, verdict
    assert outcomes == [None] * len(playing)


async def _tell(lines: asyncio.StreamReader, players: dict[str, Player]) -> None:
    while text := await lines.readline():
        told = json.loads(text)
        players[told["receiver"]].tell(told["tell"])


async def _all_ended(players: dict[str, Player]) -> None:
    for player in players.values():
        await player.ended.wait()
