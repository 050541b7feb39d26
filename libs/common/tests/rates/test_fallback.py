"""Buckets of a process stand in for the shared ones, and only while those do not answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from sluice_backends.memory.rates import MemoryRateBuckets
from sluice_common.rates.fallback import RETRY_SECONDS, FallbackRateBuckets
from sluice_core.errors import Internal, ResourceExhausted, SluiceError, Unavailable
from sluice_core.rates.model import Charge, Taken
from support.rate_buckets import MovedClock, bucket_of, per_hour

DOWN = Unavailable("REDIS_UNAVAILABLE", "Redis does not answer; try again in a moment.")
FULL = ResourceExhausted("REDIS_FULL", "Redis has no memory left; try again in a moment.")
CHARGE = Charge(bucket_of(per_hour(10, burst=2)), 1, 1)


class FailingBuckets:
    def __init__(self, clock: MovedClock) -> None:
        self.error: SluiceError | None = None
        self.calls = 0
        self._buckets = MemoryRateBuckets(clock)

    async def take(self, charges: Sequence[Charge], longest_wait_seconds: float) -> Taken:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return await self._buckets.take(charges, longest_wait_seconds)


@pytest.mark.parametrize("error", [DOWN, FULL], ids=["down", "full"])
async def test_process_limits_alone_while_redis_fails(error: SluiceError) -> None:
    clock, local = MovedClock(), []
    shared = FailingBuckets(clock)
    buckets = FallbackRateBuckets(shared, MemoryRateBuckets(clock), lambda: local.append(1), clock)
    shared.error = error
    with capture_logs() as logs:
        granted = [(await buckets.take([CHARGE], 0.0)).granted for _ in range(5)]
        assert granted == [True, True, False, False, False]
        assert (len(local), shared.calls) == (5, 1), "only one call in a second tries Redis"
        clock.now += RETRY_SECONDS
        await buckets.take([CHARGE], 0.0)
        assert shared.calls == 2
        shared.error = None
        clock.now += RETRY_SECONDS
        assert (await buckets.take([CHARGE], 0.0)).granted, "the shared bucket is full"
    assert len(local) == 6
    assert [line["event"] for line in logs] == ["rates.sharing_failed", "rates.sharing_resumed"]


async def test_defect_of_a_script_is_not_hidden() -> None:
    clock = MovedClock()
    shared = FailingBuckets(clock)
    shared.error = Internal("REDIS_REFUSED", "Redis refused a command.")
    buckets = FallbackRateBuckets(shared, MemoryRateBuckets(clock), lambda: None, clock)
    with pytest.raises(Internal):
        await buckets.take([CHARGE], 0.0)


async def test_full_buckets_leave_the_memory() -> None:
    clock = MovedClock()
    buckets = MemoryRateBuckets(clock)
    rate = per_hour(3600, burst=1)
    for number in range(5000):
        clock.now += 0.1
        await buckets.take([Charge(bucket_of(rate, subject=str(number)), 1, 1)], 0.0)
    assert buckets.bucket_count <= 1001
