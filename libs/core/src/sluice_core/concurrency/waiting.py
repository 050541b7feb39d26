"""Waiting: jittered delays, and sleeps that a signal cuts short."""

from __future__ import annotations

import asyncio
import random


def backoff_seconds(attempt: int, base_seconds: float, cap_seconds: float) -> float:
    """The delay before trying again after the `attempt`-th failure (from 1).

    Doubles up to the cap; the upper half is random, so that those that failed together do not
    come back together, and nobody comes back at once.
    """
    doublings = min(max(attempt, 1) - 1, 30)
    ceiling = min(cap_seconds, base_seconds * 2.0**doublings)
    return ceiling * random.uniform(0.5, 1.0)


async def wait_at_most(event: asyncio.Event, seconds: float) -> bool:
    """Return when the event is set, or after that time; whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()
