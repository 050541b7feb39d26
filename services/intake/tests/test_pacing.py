"""Pacing of tenants with delayed chunks, on a clock of the test."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.ports import Admission, Backlog, ChunkOffer, UploadLedger
from sluice_intake.chunks.admission import BUDGET_FULL, ChunkAdmission
from sluice_intake.chunks.pacing import (
    HEADROOM,
    MAX_WAIT_SECONDS,
    MEASURED_SECONDS,
    PACED_SECONDS,
    TenantPacing,
)
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.options import IntakeOptions

TENANT = "large"
STEP = 256 * 1024


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pacing(clock: Clock) -> TenantPacing:
    return TenantPacing(clock)


def bursts(
    pacing: TenantPacing, clock: Clock, *, seconds: float, burst_bytes: int, interval: float
) -> list[float]:
    """Return when each step is received if room for `burst_bytes` is freed every `interval`, and
    all steps that fit are requested at once.
    """
    received: list[float] = []
    begun = clock.now
    while clock.now < begun + seconds:
        pacing.delayed(TENANT)
        received.extend(
            clock.now + pacing.wait_seconds(TENANT, STEP) for _ in range(burst_bytes // STEP)
        )
        clock.now += interval
    return received


def most_within(seconds: float, times: list[float]) -> int:
    """Return the largest number of the times that lie within `seconds`."""
    most = 0
    recent: list[float] = []
    for at in sorted(times):
        heapq.heappush(recent, at)
        while recent[0] < at - seconds:
            heapq.heappop(recent)
        most = max(most, len(recent))
    return most


def test_tenant_without_delayed_chunks_never_waits(pacing: TenantPacing) -> None:
    pacing.delayed("another")
    assert [pacing.wait_seconds(TENANT, STEP) for _ in range(1000)] == [0.0] * 1000


def test_first_burst_is_not_paced(pacing: TenantPacing, clock: Clock) -> None:
    """There is no rate yet to pace it by."""
    times = bursts(pacing, clock, seconds=0.1, burst_bytes=8 << 20, interval=0.2)
    assert set(times) == {1000.0}


@pytest.mark.parametrize("burst_bytes", [2 << 20, 8 << 20, 16 << 20])
def test_bursts_are_spread_over_the_interval(
    pacing: TenantPacing, clock: Clock, burst_bytes: int
) -> None:
    """Within a tenth of the interval arrives a tenth of a burst, with headroom, and not all."""
    interval = 0.4
    times = bursts(pacing, clock, seconds=20, burst_bytes=burst_bytes, interval=interval)
    steady = [at for at in times if at > 1004]
    steps = burst_bytes // STEP
    assert most_within(interval / 10, steady) <= steps / 10 * HEADROOM * 1.25 + 1


def test_pace_is_not_below_the_rate_of_freed_room(pacing: TenantPacing, clock: Clock) -> None:
    """Each burst is received before the next one is granted."""
    interval = 0.5
    times = bursts(pacing, clock, seconds=20, burst_bytes=8 << 20, interval=interval)
    for number, at in enumerate(times):
        granted_at = 1000.0 + number // 32 * interval
        assert granted_at <= at < granted_at + interval


def test_faster_store_is_followed(pacing: TenantPacing, clock: Clock) -> None:
    """Waiting chunks are received ten times as fast within a few seconds."""
    bursts(pacing, clock, seconds=10, burst_bytes=4 << 20, interval=0.4)
    received = 0
    for _ in range(100):  # as much as it may, for ten seconds
        pacing.delayed(TENANT)
        while pacing.wait_seconds(TENANT, STEP) < 0.1:
            received += STEP
        clock.now += 0.1
    assert received > 10 * (10 << 20)


@given(
    requests=st.lists(
        st.tuples(
            st.floats(0, 30), st.integers(0, 64 << 20), st.booleans(), st.sampled_from(("a", "b"))
        ),
        max_size=60,
    )
)
def test_wait_is_bounded_for_any_requests(
    requests: list[tuple[float, int, bool, str]],
) -> None:
    clock = Clock()
    pacing = TenantPacing(clock)
    for seconds, size, delayed, tenant in requests:
        clock.now += seconds
        if delayed:
            pacing.delayed(tenant)
        assert 0 <= pacing.wait_seconds(tenant, size) <= MAX_WAIT_SECONDS + 1e-6


def test_pacing_ends_after_the_last_delayed_chunk(pacing: TenantPacing, clock: Clock) -> None:
    bursts(pacing, clock, seconds=5, burst_bytes=8 << 20, interval=0.4)
    clock.now += PACED_SECONDS
    assert [pacing.wait_seconds(TENANT, STEP) for _ in range(1000)] == [0.0] * 1000
    pacing.delayed(TENANT)
    clock.now += MEASURED_SECONDS / 2
    assert pacing.wait_seconds(TENANT, STEP) == 0  # measured anew


def test_tenants_are_forgotten(pacing: TenantPacing, clock: Clock) -> None:
    for number in range(10_000):
        pacing.delayed(f"tenant-{number}")
        clock.now += 0.01
    assert len(pacing._paces) <= PACED_SECONDS / 0.01 + 1


async def test_granted_bytes_wait_for_their_time(pacing: TenantPacing, clock: Clock) -> None:
    bursts(pacing, clock, seconds=5, burst_bytes=8 << 20, interval=0.5)
    assert pacing.wait_seconds(TENANT, STEP) == 0  # the first of a burst
    waiting = asyncio.create_task(pacing.wait(TENANT, STEP))
    await asyncio.sleep(0)
    assert not waiting.done()
    await waiting


@dataclass
class ScriptedLedger:
    """Delays each chunk once; then grants it."""

    refused: set[str] = field(default_factory=set)

    async def admit_chunk(self, offer: ChunkOffer) -> Admission:
        if offer.token in self.refused:
            return Admission(granted=True, held_bytes=offer.size)
        self.refused.add(offer.token)
        return Admission(granted=False, reason=BUDGET_FULL)

    async def wait_for_room(self, upload_id: str, seconds: float) -> None:
        pass

    async def backlog(self) -> Backlog:
        return Backlog(0, 0, 0, 0)


@pytest.mark.parametrize("kind", ["stream", "unary"])
async def test_admission_paces_the_tenants_that_it_delays(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """By the bytes that a request adds, not by the size of its chunk."""
    calls: list[tuple[str, ...]] = []

    async def wait(_: TenantPacing, tenant: str, granted_bytes: int) -> None:
        calls.append(("wait", tenant, str(granted_bytes)))

    monkeypatch.setattr(TenantPacing, "wait", wait)
    monkeypatch.setattr(
        TenantPacing, "delayed", lambda _, tenant: calls.append(("delayed", tenant))
    )
    admission = ChunkAdmission(
        cast(UploadLedger, ScriptedLedger()), IntakeMetrics(), IntakeOptions()
    )
    offer = ChunkOffer("upload", 0, STEP, "token")

    async def ignore(_: Admission) -> None:
        pass

    for _ in range(2):
        if kind == "stream":
            await admission.admit_streamed(TENANT, offer, 5, ignore)
        else:
            await admission.admit_unary(TENANT, offer, 5)
    assert calls == [("delayed", TENANT), ("wait", TENANT, "5"), ("wait", TENANT, "5")]
