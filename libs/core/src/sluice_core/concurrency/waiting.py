"""Jittered backoff, and waits that an event ends early."""

from __future__ import annotations

import asyncio
import random


def backoff_seconds(attempt: int, base_seconds: float, cap_seconds: float) -> float:
    """Return the delay before the retry that follows the `attempt`-th failure (from 1).

    Doubles up to the cap. The upper half is random, so that clients that failed together do not
    retry together, and none retries at once.
    """
    doublings = min(max(attempt, 1) - 1, 30)
    ceiling = min(cap_seconds, base_seconds * 2.0**doublings)
    return ceiling * random.uniform(0.5, 1.0)


async def wait_at_most(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, at most `seconds`; return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()
