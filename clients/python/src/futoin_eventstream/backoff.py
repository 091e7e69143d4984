"""Pauses between attempts: growing, drawn at random, never below what the service asks for."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

_NONE = timedelta()


@dataclass(frozen=True)
class Backoff:
    """Attempt n waits for `initial` * 2 ** (n - 1), at most `maximum`, or down to half of it."""

    initial: timedelta = timedelta(milliseconds=100)
    maximum: timedelta = timedelta(seconds=10)

    def __post_init__(self) -> None:
        if not _NONE < self.initial <= self.maximum:
            raise ValueError("backoff: must be 0 < initial <= maximum")

    def delay(self, attempt: int, at_least: timedelta | None = None) -> timedelta:
        """How long to wait before the attempt after `attempt` (from 1) failed ones."""
        # 2 ** 20 times any pause is above any maximum of use.
        whole: timedelta = min(self.initial * (1 << min(attempt - 1, 20)), self.maximum)
        return max(whole * random.uniform(0.5, 1), at_least or _NONE)
