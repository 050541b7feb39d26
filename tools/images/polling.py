"""Polling for a condition in another process."""

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
    """Poll until the answer is true. Return the seconds that it took.

    Raise `ServiceError` with `otherwise` after so many seconds.
    """
    begun = time.monotonic()
    while not check():
        if time.monotonic() - begun > seconds:
            raise ServiceError(f"{otherwise} (waited for {seconds:.0f} s)")
        time.sleep(pause)
    return time.monotonic() - begun
