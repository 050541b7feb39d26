"""The two clocks of a session: one for durations, one for the end of its token."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time. `monotonic`: seconds that are never set back; `unix`: Unix seconds."""

    monotonic: float
    unix: float


Clock = Callable[[], Instant]


def system_clock() -> Instant:
    """Return the time of this machine."""
    return Instant(time.monotonic(), time.time())
