"""The limiter of a process on a driven clock: bounds, allowances, refusals, delays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_backends.memory.rates import MemoryRateBuckets
from sluice_common.rates import limiter as limiters
from sluice_common.rates.limiter import LONGEST_WAIT_SECONDS, RateLimiter
from sluice_common.rates.metrics import RateMetrics
from sluice_common.settings.rates import Rates
from sluice_core.access.principal import Principal
from sluice_core.errors import ResourceExhausted
from sluice_core.ports.rate_buckets import RateBuckets
from sluice_core.rates.model import Charge, RateKind, Taken

ANNE = Principal("t", "anne", frozenset())
BOB = Principal("t", "bob", frozenset())
OTHER = Principal("u", "anne", frozenset())
CALLS, UPLOADS = RateKind.CALLS, RateKind.UPLOADS


@dataclass
class Clock:
    """A clock that only sleeping moves."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class CountedBuckets:
    """Counts the calls of buckets, as round trips."""

    def __init__(self, buckets: RateBuckets) -> None:
        self._buckets = buckets
        self.calls = 0

    async def take(self, charges: Sequence[Charge], longest_wait_seconds: float) -> Taken:
        self.calls += 1
        await asyncio.sleep(0)  # as Redis does, suspend
        return await self._buckets.take(charges, longest_wait_seconds)


def limiter_of(clock: Clock, buckets: RateBuckets | None = None, **rates: float) -> RateLimiter:
    settings = Rates.model_validate(rates)
    return RateLimiter(
        buckets or MemoryRateBuckets(clock),
        settings.to_rates(),
        RateMetrics(),
        allowance_seconds=settings.allowance_seconds,
        clock=clock,
        sleep=clock.sleep,
    )


async def refused(limiter: RateLimiter, principal: Principal, *kinds: RateKind) -> bool:
    try:
        await limiter.admit_call(principal, *kinds)
    except ResourceExhausted:
        return True
    return False


async def admitted(limiter: RateLimiter, principal: Principal, count: int) -> int:
    return sum([not await refused(limiter, principal, CALLS) for _ in range(count)])


def counted(limiter: RateLimiter, kind: str, scope: str, outcome: str) -> float:
    registry = limiter._metrics.registry
    labels = {"kind": kind, "scope": scope, "outcome": outcome}
    return registry.get_sample_value("sluice_rate_limited_total", labels) or 0.0


# -- calls


async def test_refusal_names_limit_and_delay() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tenant_uploads_per_minute=2, burst_seconds=60)
    for _ in range(2):
        await limiter.admit_call(ANNE, CALLS, UPLOADS)
    with pytest.raises(ResourceExhausted) as caught:
        await limiter.admit_call(BOB, CALLS, UPLOADS)
    assert caught.value.reason == "RATE_LIMITED"
    assert caught.value.retry_after_seconds == pytest.approx(30)
    assert caught.value.metadata == {"kind": "uploads", "scope": "tenant", "limit": "2"}
    assert counted(limiter, "uploads", "tenant", "refused") == 1
    assert not await refused(limiter, BOB, CALLS), "other calls are not limited"
    assert not await refused(limiter, OTHER, CALLS, UPLOADS)


async def test_call_after_the_named_delay_is_admitted() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tenant_calls_per_second=7, burst_seconds=1)
    assert await admitted(limiter, ANNE, 50) == 7
    with pytest.raises(ResourceExhausted) as caught:
        await limiter.admit_call(ANNE, CALLS)
    await clock.sleep(caught.value.retry_after_seconds or 0.0)
    assert await admitted(limiter, ANNE, 50) == 1


async def test_subject_is_limited_before_its_tenant() -> None:
    clock = Clock()
    limiter = limiter_of(
        clock, tenant_calls_per_second=10, subject_calls_per_second=4, burst_seconds=1
    )
    assert await admitted(limiter, ANNE, 50) == 4
    assert await admitted(limiter, BOB, 3) == 3, "Anne's refused calls cost the tenant nothing"
    assert await admitted(limiter, BOB, 50) == 1
    assert counted(limiter, "calls", "subject", "refused") == 46 + 49
    assert limiter.limit(CALLS) == 4
    assert limiter.limit(UPLOADS) == 0


async def test_refused_caller_costs_no_round_trip() -> None:
    clock = Clock()
    buckets = CountedBuckets(MemoryRateBuckets(clock))
    limiter = limiter_of(clock, buckets, tenant_calls_per_second=5, burst_seconds=1)
    await admitted(limiter, ANNE, 5)
    before = buckets.calls
    assert await admitted(limiter, ANNE, 1000) == 0
    assert buckets.calls == before + 1


async def test_busy_caller_costs_few_round_trips() -> None:
    clock = Clock()
    buckets = CountedBuckets(MemoryRateBuckets(clock))
    limiter = limiter_of(clock, buckets, tenant_calls_per_second=1000, allowance_seconds=0.2)
    for _ in range(1000):
        await limiter.admit_call(ANNE, CALLS)
        await clock.sleep(0.002)
    assert buckets.calls < 40


async def test_quiet_callers_take_nothing_ahead() -> None:
    """A hundred quiet subjects may use the whole rate of their tenant."""
    clock = Clock()
    limiter = limiter_of(clock, tenant_calls_per_second=100, burst_seconds=1)
    for number in range(300):
        caller = Principal("t", f"s{number % 100}", frozenset())
        assert not await refused(limiter, caller, CALLS)
        await clock.sleep(0.01)


async def test_calls_at_once_share_what_is_taken_ahead() -> None:
    clock = Clock()
    buckets = CountedBuckets(MemoryRateBuckets(clock))
    limiter = limiter_of(clock, buckets, tenant_calls_per_second=1000, allowance_seconds=0.2)
    await asyncio.gather(*(limiter.admit_call(ANNE, CALLS) for _ in range(200)))
    assert buckets.calls < 15


@given(
    replicas=st.integers(1, 3),
    steps=st.lists(st.tuples(st.floats(0, 0.3), st.integers(1, 30)), min_size=5, max_size=40),
)
def test_replicas_admit_at_most_burst_rate_and_allowance(
    replicas: int, steps: list[tuple[float, int]]
) -> None:
    """In any window of t: burst + rate × (t + allowance_seconds), whatever the replicas."""
    rate, burst, ahead = 50, 25, 0.2
    clock = Clock()
    shared = MemoryRateBuckets(clock)
    processes = [
        limiter_of(clock, shared, tenant_calls_per_second=rate, burst_seconds=burst / rate)
        for _ in range(replicas)
    ]
    admissions: list[tuple[float, int]] = []

    async def run() -> None:
        for number, (pause, count) in enumerate(steps):
            await clock.sleep(pause)
            got = await admitted(processes[number % replicas], ANNE, count)
            admissions.append((clock.now, got))

    asyncio.run(run())
    for start, _ in admissions:
        for end, _ in admissions:
            inside = sum(got for at, got in admissions if start <= at <= end)
            if end >= start:
                assert inside <= burst + rate * (end - start + ahead) + 1e-6


async def test_forgotten_callers_bound_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiters, "_MOST_CALLERS", 10)
    clock = Clock()
    limiter = limiter_of(clock, tenant_calls_per_second=5, burst_seconds=1)
    answers = [
        await refused(limiter, Principal("t", f"s{number}", frozenset()), CALLS)
        for number in range(100)
    ]
    assert answers.count(False) == 5, "the bucket is not forgotten with the caller"
    assert len(limiter._callers) == 10


# -- bytes


async def test_paced_bytes_arrive_at_the_rate() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tenant_bytes_per_second=1000, burst_seconds=1)
    for _ in range(50):
        await limiter.pace_bytes(ANNE, 200)
    assert clock.now - 1000.0 == pytest.approx(9.0, abs=0.01)
    assert counted(limiter, "bytes", "tenant", "delayed") == 45


async def test_block_above_the_burst_passes_and_is_owed() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tenant_bytes_per_second=10, burst_seconds=1)
    await limiter.pace_bytes(ANNE, 1000)
    assert clock.slept == []
    await limiter.pace_bytes(ANNE, 1)
    assert clock.now - 1000.0 == pytest.approx(99.1, abs=0.01)


async def test_long_delay_is_notified_again() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tenant_bytes_per_second=10, burst_seconds=1)
    left: list[float] = []

    async def on_delay(seconds: float) -> None:
        left.append(seconds)

    await limiter.pace_bytes(ANNE, 1000)
    await limiter.pace_bytes(ANNE, 1, on_delay)
    assert len(left) >= 7
    assert max(clock.slept) <= 15


async def test_streams_of_one_caller_proceed_in_turn() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tenant_bytes_per_second=100, burst_seconds=1)
    done: list[int] = []

    async def stream(number: int) -> None:
        for _ in range(3):
            await limiter.pace_bytes(ANNE, 5000)
        done.append(number)

    await asyncio.gather(*(stream(number) for number in range(5)))
    assert sorted(done) == list(range(5))
    assert clock.now - 1000.0 >= 14 * 50 - 1


async def test_unary_bytes_are_refused_when_the_debt_is_large() -> None:
    clock = Clock()
    limiter = limiter_of(clock, tenant_bytes_per_second=100, burst_seconds=1)
    await limiter.admit_bytes(ANNE)
    await limiter.charge_bytes(ANNE, 2099)
    with pytest.raises(ResourceExhausted) as caught:
        await limiter.admit_bytes(ANNE, 500)
    assert caught.value.metadata["kind"] == "bytes"
    retry_after = caught.value.retry_after_seconds
    assert retry_after is not None
    await clock.sleep(retry_after)
    before = clock.now
    await limiter.admit_bytes(ANNE, 1)
    assert 0 < clock.now - before <= LONGEST_WAIT_SECONDS


async def test_unlimited_kinds_ask_no_bucket() -> None:
    clock = Clock()
    buckets = CountedBuckets(MemoryRateBuckets(clock))
    limiter = limiter_of(clock, buckets, tenant_uploads_per_minute=1)
    await limiter.admit_call(ANNE, CALLS)
    await limiter.pace_bytes(ANNE, 10**9)
    await limiter.admit_bytes(ANNE, 10**9)
    await limiter.charge_bytes(ANNE, 10**9)
    assert buckets.calls == 0
