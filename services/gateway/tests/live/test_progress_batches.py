"""Ticks of progress: gathered, bounded, and lost without harm."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_core.errors import Unavailable
from sluice_core.live.updates import Audience, ProgressTick
from sluice_gateway.live.progress import GATHER_SECONDS, ProgressBatches
from sluice_gateway.metrics import LiveMetrics

ANN, BOB = Audience("acme", "ann"), Audience("acme", "bob")


class CountedUpdates(MemoryLiveUpdates):
    """Counts calls, and fails while it is down."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.is_down = False

    async def post_progress(self, audience: Audience, ticks: Sequence[ProgressTick]) -> None:
        if self.is_down:
            raise Unavailable("REDIS_UNAVAILABLE", "Try again.")
        self.calls.append(len(ticks))
        await super().post_progress(audience, ticks)


class Pauses:
    """The passing of time, as the test lets it pass."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[float] = asyncio.Queue()
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.begun.put_nowait(seconds)
        await self.over.wait()
        self.over.clear()


def tick(photo: str, sent: int) -> ProgressTick:
    return ProgressTick("job-1", photo, sent, 100)


def count(metrics: LiveMetrics, outcome: str) -> float:
    name, labels = "sluice_gateway_progress_ticks_total", {"outcome": outcome}
    return metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def updates() -> CountedUpdates:
    return CountedUpdates()


async def sent_of(updates: MemoryLiveUpdates, audience: Audience, photo: str) -> int | None:
    (latest,) = await updates.latest(audience, [photo])
    return None if latest is None else latest.bytes_sent


async def test_ticks_of_a_moment_are_one_call_for_a_user(updates: CountedUpdates) -> None:
    batches = ProgressBatches(updates, LiveMetrics())
    for sent in range(1, 60):
        batches.post(ANN, [tick(f"p{photo}", sent) for photo in range(5)])
        batches.post(BOB, [tick("q", sent)])
    await batches.flush()
    assert sorted(updates.calls) == [1, 5]
    assert await sent_of(updates, ANN, "p4") == 59
    assert await sent_of(updates, BOB, "q") == 59
    await batches.flush()
    assert sorted(updates.calls) == [1, 5], "nothing is sent twice"


async def test_ticks_out_of_order_keep_the_furthest(updates: CountedUpdates) -> None:
    batches = ProgressBatches(updates, LiveMetrics())
    batches.post(ANN, [tick("p", 50), tick("p", 20)])
    await batches.flush()
    assert await sent_of(updates, ANN, "p") == 50


async def test_large_batches_are_cut(updates: CountedUpdates) -> None:
    batches = ProgressBatches(updates, LiveMetrics())
    batches.post(ANN, [tick(f"p{n}", 1) for n in range(1_100)])
    await batches.flush()
    assert sorted(updates.calls) == [100, 500, 500]


async def test_too_many_photos_are_dropped_until_the_flush(updates: CountedUpdates) -> None:
    metrics = LiveMetrics()
    batches = ProgressBatches(updates, metrics, max_photos=3)
    batches.post(ANN, [tick(f"p{n}", 1) for n in range(5)])
    batches.post(BOB, [tick("q", 1)])
    batches.post(ANN, [tick("p0", 2)])
    assert count(metrics, "dropped") == 3
    await batches.flush()
    assert (count(metrics, "stored"), updates.calls) == (3, [3])
    assert await sent_of(updates, ANN, "p0") == 2
    batches.post(BOB, [tick("q", 1)])
    await batches.flush()
    assert await sent_of(updates, BOB, "q") == 1


async def test_backend_that_is_down_costs_its_ticks_only(updates: CountedUpdates) -> None:
    metrics = LiveMetrics()
    batches = ProgressBatches(updates, metrics)
    updates.is_down = True
    batches.post(ANN, [tick("p", 1), tick("q", 1)])
    await batches.flush()
    assert count(metrics, "failed") == 2
    updates.is_down = False
    batches.post(ANN, [tick("p", 2)])
    await batches.flush()
    assert await sent_of(updates, ANN, "p") == 2


async def test_flushes_wait_for_ticks_and_gather_them(updates: CountedUpdates) -> None:
    pauses = Pauses()
    batches = ProgressBatches(updates, LiveMetrics(), pause=pauses)
    async with updates.listen(ANN) as listening:
        running = asyncio.create_task(batches.run())
        try:
            for sent in (10, 20):
                batches.post(ANN, [tick("p", sent - 1)])
                async with asyncio.timeout(30):
                    assert await pauses.begun.get() == GATHER_SECONDS
                    batches.post(ANN, [tick("p", sent)])
                    listening.changed.clear()
                    pauses.over.set()
                    await listening.changed.wait()
                assert await sent_of(updates, ANN, "p") == sent
        finally:
            running.cancel()
            await asyncio.wait([running])
    assert updates.calls == [1, 1]
