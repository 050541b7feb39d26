"""Pacing of tenants with delayed chunks: they take freed room evenly, not in bursts."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

PACED_SECONDS: Final = 2.0
"""A tenant is paced for this long after its last delayed chunk."""

MEMORY_SECONDS: Final = 2.0
"""Time constant of the average rate: what was granted longer ago counts less than 1/e."""

MEASURED_SECONDS: Final = 0.2
"""A rate is not used before it was measured for this long."""

HEADROOM: Final = 4 / 3
"""Factor on the average rate, so that a tenant follows a store that becomes faster."""

MAX_WAIT_SECONDS: Final = 0.5
"""Longest wait of one request, whatever the rate."""


@dataclass(slots=True)
class _Pace:
    """The pace of one tenant. Times are those of the clock, in seconds."""

    delayed_at: float
    counted_at: float
    due_at: float = 0.0
    """When the next bytes may be received."""
    granted_bytes: float = 0.0
    """Weighted by age, as `seconds` is; their quotient is the average rate."""
    seconds: float = 0.0

    def is_over(self, now: float) -> bool:
        return now - self.delayed_at >= PACED_SECONDS

    def next_due(self, now: float, granted_bytes: int) -> float:
        """Count the bytes. Return when they may be received, at the latest MAX_WAIT_SECONDS from
        now.
        """
        elapsed = now - self.counted_at
        weight = math.exp(-elapsed / MEMORY_SECONDS)
        self.counted_at = now
        self.seconds = self.seconds * weight + MEMORY_SECONDS * (1 - weight)
        self.granted_bytes = self.granted_bytes * weight + granted_bytes
        if self.seconds < MEASURED_SECONDS:
            return now
        due_at = min(max(now, self.due_at), now + MAX_WAIT_SECONDS)
        self.due_at = due_at + granted_bytes * self.seconds / (HEADROOM * self.granted_bytes)
        return due_at


class TenantPacing:
    """Spreads what tenants with delayed chunks receive over the time in which room is freed.

    A stored part frees room for many chunks at once. Unpaced, all delayed chunks of its tenant are
    received in one burst that keeps this process, the coordination server and their cores busy, so
    that chunks of other tenants, which have room, wait as well (ADR 0025). While room is short, a
    tenant receives as many bytes per second as it is granted on average; the pace is that average
    of the last seconds, with some headroom.

    Pacing only delays bytes that have been granted room, by at most MAX_WAIT_SECONDS, and ends when
    chunks are no longer delayed. A tenant without delayed chunks is never paced. One event loop.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paces: dict[str, _Pace] = {}
        """Ordered by `delayed_at`."""

    def delayed(self, tenant: str) -> None:
        """Record that a chunk of the tenant is delayed: pace the tenant from now on."""
        now = self._clock()
        pace = self._paces.pop(tenant, None)
        if pace is None or pace.is_over(now):
            pace = _Pace(now, now)
        pace.delayed_at = now
        self._paces[tenant] = pace
        while self._paces[oldest := next(iter(self._paces))].is_over(now):
            del self._paces[oldest]

    async def wait(self, tenant: str, granted_bytes: int) -> None:
        """Wait until the tenant may receive bytes that it was granted room for."""
        if self._paces and (seconds := self.wait_seconds(tenant, granted_bytes)) > 0:
            await asyncio.sleep(seconds)

    def wait_seconds(self, tenant: str, granted_bytes: int) -> float:
        """Return for how long granted bytes have to wait, and count them."""
        now = self._clock()
        pace = self._paces.get(tenant)
        if pace is None or pace.is_over(now) or not granted_bytes:
            return 0.0
        return pace.next_due(now, granted_bytes) - now
