"""Waiting for what a test can see, with a deadline; and what processes say of themselves."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Awaitable, Callable

from prometheus_client.parser import text_string_to_metric_families

POLL_SECONDS = 0.1


async def until(check: Callable[[], Awaitable[object]], seconds: float, what: str) -> float:
    """Ask until the answer is true; the seconds that it took. AssertionError after `seconds`."""
    begun = time.monotonic()
    while not await check():
        assert time.monotonic() - begun < seconds, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - begun


async def metric(address: str, name: str, **labels: str) -> float:
    """The sum of the samples of this name that carry these labels; 0 where there is none."""
    return await asyncio.to_thread(_read_metric, address, name, labels)


def _read_metric(address: str, name: str, labels: dict[str, str]) -> float:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
