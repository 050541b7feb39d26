"""Token buckets that decide within one process while the shared ones do not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from sluice_core.errors import ResourceExhausted, SluiceError, Unavailable
from sluice_core.ports.rate_buckets import RateBuckets
from sluice_core.rates.model import Charge, Taken

RETRY_SECONDS: Final = 1.0
"""Time without the shared buckets after they did not answer."""

_log = structlog.get_logger(__name__)


class FallbackRateBuckets:
    """`RateBuckets` that neither fail nor stop limiting when Redis does.

    Meanwhile every process limits on its own, with the same rates: a caller gets at most the rate
    times the number of processes. Refusing instead would make a failure of every call out of a
    failure of the limiter, also for calls that do not need Redis.

    Args:
        local: buckets of this process.
        on_local: called for each decision of `local`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        shared: RateBuckets,
        local: RateBuckets,
        on_local: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._local = local
        self._on_local = on_local
        self._clock = clock
        self._retry_at: float | None = None

    async def take(self, charges: Sequence[Charge], longest_wait_seconds: float) -> Taken:
        if self._retry_at is None or self._clock() >= self._retry_at:
            if self._retry_at is not None:
                # One call tries whether Redis is back; the others do not wait for it.
                self._retry_at = self._clock() + RETRY_SECONDS
            try:
                taken = await self._shared.take(charges, longest_wait_seconds)
            except (Unavailable, ResourceExhausted) as error:
                self._failed(error)
            else:
                self._answered()
                return taken
        self._on_local()
        return await self._local.take(charges, longest_wait_seconds)

    def _failed(self, error: SluiceError) -> None:
        if self._retry_at is None:
            _log.warning("rates.sharing_failed", reason=error.reason, detail=error.log_detail)
        self._retry_at = self._clock() + RETRY_SECONDS

    def _answered(self) -> None:
        if self._retry_at is not None:
            _log.info("rates.sharing_resumed")
        self._retry_at = None
