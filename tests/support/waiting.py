"""Polling with a deadline, and metrics of running processes."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Awaitable, Callable
from inspect import isawaitable

from prometheus_client.parser import text_string_to_metric_families

_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.1


async def until(
    check: Callable[[], object | Awaitable[object]],
    seconds: float = 30.0,
    what: str = "the condition",
) -> float:
    """Poll `check` until it is true and return the seconds that it took.

    Raises AssertionError with `what` after `seconds`.
    """
    begun = time.monotonic()
    pause = _FIRST_PAUSE_SECONDS
    while True:
        answer = check()
        if await answer if isawaitable(answer) else answer:
            return time.monotonic() - begun
        assert time.monotonic() - begun < seconds, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


async def metric(address: str, name: str, **labels: str) -> float:
    """Return the sum of the samples with this name and these labels; 0 without any."""
    return await asyncio.to_thread(_read_metric, address, name, labels)


def _read_metric(address: str, name: str, labels: dict[str, str]) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(scrape(address))
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def scrape(address: str) -> str:
    """Return the text of `/metrics`."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text
