"""The conversation with `scripted`, which plays a case and judges it; see clients/conformance/README.md.

A part for asyncio and one for threads make the same receivers of the same words.
"""

import json
import subprocess
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from environment import given

from futoin_eventstream import (
    Backoff,
    DeadLetter,
    Event,
    HandlerFailed,
    Retry,
    ServiceError,
    Start,
    Stop,
)

Report = Callable[..., None]

CASES = subprocess.run([given("TEST_SCRIPTED"), "--list"], check=True, capture_output=True, text=True).stdout.split()


def options_of(receiver: dict[str, Any], report: Report, dead_letter: Any) -> dict[str, Any]:
    """The options of a receiver of the table, with its hook."""
    words = dict(receiver["options"])
    words.pop("component", None)
    words.pop("by", None)
    options: dict[str, Any] = {"label": receiver["name"]}
    backoff = {}
    for word, value in words.items():
        if word == "start":
            options["start"] = Start.after(value["after_id"])
        elif word in ("backoff_initial_ms", "backoff_max_ms"):
            name = "initial" if word == "backoff_initial_ms" else "maximum"
            backoff[name] = timedelta(milliseconds=value)
        elif word.endswith("_ms"):
            options[word.removesuffix("_ms")] = timedelta(milliseconds=value)
        elif word == "on_failure":
            options["on_failure"] = _policy(value, dead_letter)
        else:
            options[word] = value
    if options.get("workers", 1) > 1:
        options["key"] = lambda event: event.data["k"]
    if backoff:
        options["backoff"] = Backoff(**backoff)
    options["on_reconnect"] = lambda attempt, delay, _error: report(
        did="reconnect", attempt=attempt, delay_ms=delay / timedelta(milliseconds=1)
    )
    return options


def _policy(word: Any, dead_letter: Any) -> Retry | Stop | DeadLetter:
    if isinstance(word, dict):
        return DeadLetter(dead_letter, word["dead_letter"]["attempts"])
    return {"retry": Retry, "stop": Stop}[word]()


def error_of(error: BaseException | None) -> dict[str, Any] | None:
    """The end of a receiver as it is reported. What is no error of this package is a fault of the test."""
    if isinstance(error, ServiceError):
        return {"kind": "service", "code": error.code.name, "reason": error.reason}
    if isinstance(error, HandlerFailed):
        return {"kind": "handler", "event": error.event.id}
    if error is not None:
        raise error
    return None


class Plan:
    """What the table says about the handler: how often it fails, and where it waits."""

    def __init__(self, receiver: dict[str, Any]) -> None:
        steps = receiver.get("handler", [])
        self._waits = {step["event"] for step in steps if step.get("wait")}
        self._fails = {step["event"]: _count(step.get("fail", 0)) for step in steps}
        self._letters = {step["event"]: step.get("dead_letter_fail", 0) for step in steps}

    def waits(self, event: Event) -> bool:
        return event.id in self._waits

    def work(self, event: Event) -> None:
        """Fails where the table says so."""
        _fail(self._fails, event)

    def dead_letter(self, event: Event) -> None:
        _fail(self._letters, event)


def _count(fail: int | str) -> float:
    return float("inf") if fail == "always" else float(fail)


def _fail(left: dict[int, float], event: Event) -> None:
    if left.get(event.id, 0) > 0:
        left[event.id] -= 1
        raise ValueError(f"event {event.id} is to fail")


def line(receiver: str, **report: Any) -> bytes:
    """A report."""
    return json.dumps({"receiver": receiver, **report}).encode() + b"\n"
