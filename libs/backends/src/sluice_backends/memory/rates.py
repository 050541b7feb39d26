"""Token buckets in the memory of one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from sluice_core.rates import token_bucket
from sluice_core.rates.model import SECOND_US, Bucket, Charge, Taken
from sluice_core.rates.token_bucket import Level, is_full, refill

_FIRST_SWEEP: Final = 1_000


class MemoryRateBuckets:
    """`RateBuckets` of one process.

    A bucket that is full again is forgotten, which changes no answer: so the memory is bounded by
    what callers take within the time of a burst.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._levels: dict[Bucket, Level] = {}
        self._sweep_at = _FIRST_SWEEP

    async def take(self, charges: Sequence[Charge], longest_wait_seconds: float) -> Taken:
        now_us = int(self._clock() * SECOND_US)
        levels = [
            refill(each.bucket.rate, self._levels.get(each.bucket), now_us) for each in charges
        ]
        longest_us = int(longest_wait_seconds * SECOND_US)
        taken, after = token_bucket.take(charges, levels, longest_us)
        if taken.granted:
            for charge, level in zip(charges, after, strict=True):
                self._levels[charge.bucket] = level
            if len(self._levels) > self._sweep_at:
                self._forget_full(now_us)
        return taken

    @property
    def bucket_count(self) -> int:
        """Number of buckets in memory."""
        return len(self._levels)

    def _forget_full(self, now_us: int) -> None:
        self._levels = {
            bucket: level
            for bucket, level in self._levels.items()
            if not is_full(bucket.rate, level, now_us)
        }
        # Twice as many as remained: each sweep costs no more than the calls since the last one.
        self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._levels))
