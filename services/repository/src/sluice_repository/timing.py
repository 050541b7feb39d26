"""Waiting: jittered delays, and sleeps that a signal cuts short."""

from __future__ import annotations

import asyncio
import random


def backoff_seconds(attempt: int, base_seconds: float, cap_seconds: float) -> float:
    """The delay before trying again after the `attempt`-th failure (from 1).

    Doubles up to the cap; the upper half is random, so that workers that failed together do not
    come back together, and nobody comes back at once.
    """
    doublings = min(max(attempt, 1) - 1, 30)
    ceiling = min(cap_seconds, base_seconds * 2.0**doublings)
    return ceiling * random.uniform(0.5, 1.0)


async def wait_for_event(event: asyncio.Event, seconds: float) -> bool:
    """Wait until `event` is set, at most `seconds`; whether it is."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
