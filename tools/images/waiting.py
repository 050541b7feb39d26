"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable

from tools.backends.errors import ServiceError

PAUSE_SECONDS = 0.5


def wait_until(
    check: Callable[[], object],
    seconds: float,
    otherwise: str,
    pause: float = PAUSE_SECONDS,
) -> float:
    """Ask until the answer is true; the seconds that it took.

    Raises `ServiceError` with `otherwise` after so many seconds.
    """
    begun = time.monotonic()
    while not check():
        if time.monotonic() - begun > seconds:
            raise ServiceError(f"{otherwise} (asked for {seconds:.0f} s)")
        time.sleep(pause)
    return time.monotonic() - begun
