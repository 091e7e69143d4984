"""Every case of clients/conformance, by the receivers for threads."""

import json
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

import pytest
from environment import given
from scripted import CASES, Plan, error_of, line, options_of

from futoin_eventstream import Event
from futoin_eventstream.sync import EventStream, LiveReceiver, ReliableReceiver


class Reports:
    """Lines to the script, which may have gone."""

    def __init__(self, script: subprocess.Popen[bytes]) -> None:
        self._pipe = script.stdin
        self._lock = threading.Lock()

    def write(self, text: bytes) -> None:
        with self._lock:
            self._pipe.write(text)
            self._pipe.flush()

    def close(self) -> None:
        with self._lock:
            self._pipe.close()


class Player(threading.Thread):
    """A receiver of a case."""

    def __init__(self, spec: dict[str, Any], address: str, reports: Reports) -> None:
        super().__init__()
        self._spec = spec
        self._stream = EventStream(address)
        self._reports = reports
        self._plan = Plan(spec)
        self._release = threading.Semaphore(0)
        self.receiver = self._receiver()
        self.failure: Exception | None = None
        self._cancelled = False
        self.begun = threading.Event()

    def start(self) -> None:
        super().start()
        self.begun.set()

    def tell(self, word: str) -> None:
        if word == "release":
            self._release.release()
        elif word == "cancel":
            self.receiver.cancel()
            # A thread cannot be interrupted: this handler ends by itself.
            self._cancelled = True
            self._release.release()
        else:
            getattr(self, word, self.receiver.stop)()

    def run(self) -> None:
        try:
            error = error_of(self._outcome())
            self._report(did="ended", error=error)
        except Exception as failure:
            self.failure = failure

    def _outcome(self) -> Exception | None:
        try:
            self._live() if self._spec["kind"] == "live" else self.receiver.run()
        except CancelledError:
            return None
        except Exception as error:
            return error
        finally:
            self._stream.close()
        return None

    def _receiver(self) -> ReliableReceiver | LiveReceiver:
        options = options_of(self._spec, self._report, self._dead_letter)
        words = self._spec["options"]
        if self._spec["kind"] == "live":
            return self._stream.live(**options)
        if words.get("by") == "group":
            return self._stream.receive_groups(words["component"], self._handle, **options)
        return self._stream.receive(words["component"], lambda event: self._handle([event]), **options)

    def _live(self) -> None:
        dropped = 0
        with self.receiver as live:
            for event in live:
                if live.dropped != dropped:
                    dropped = live.dropped
                    self._report(did="dropped", count=dropped)
                self._handle([event])

    def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            self._report(did="handle", id=event.id)
            if self._plan.waits(event):
                self._release.acquire()
            if self._cancelled:
                raise CancelledError
            self._plan.work(event)
            self._report(did="handled", id=event.id)

    def _dead_letter(self, event: Event, _error: Exception) -> None:
        self._report(did="dead_letter", id=event.id)
        self._plan.dead_letter(event)

    def _report(self, **report: Any) -> None:
        self._reports.write(line(self._spec["name"], **report))


@pytest.mark.parametrize("case", CASES)
def test_case(case: str) -> None:
    command = [given("TEST_SCRIPTED"), "--case", case]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as script:
        opening = json.loads(script.stdout.readline())
        reports = Reports(script)
        players = {spec["name"]: Player(spec, opening["address"], reports) for spec in opening["receivers"]}
        for spec in opening["receivers"]:
            if not spec.get("wait"):
                players[spec["name"]].start()
        closer = threading.Thread(target=_close_at_end, args=(players, reports))
        closer.start()
        for text in script.stdout:
            told = json.loads(text)
            players[told["receiver"]].tell(told["tell"])
        verdict = script.stderr.read().decode()
        code = script.wait()
        for player in players.values():
            _let_go(player)
        closer.join()
    assert code == 0, verdict
    assert [player.failure for player in players.values()] == [None] * len(players)


def _close_at_end(players: dict[str, Player], reports: Reports) -> None:
    for player in players.values():
        player.begun.wait()
        player.join()
    reports.close()


def _let_go(player: Player) -> None:
    """Of a case that failed: nothing of it may go on."""
    if not player.begun.is_set():
        player.start()
    if player.is_alive():
        player.tell("stop")
        for _ in range(100):
            player.tell("release")
