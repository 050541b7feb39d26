"""Opener of the rate limiter of a process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

from sluice_backends.instruments import Registry
from sluice_backends.memory.rates import MemoryRateBuckets
from sluice_backends.redis.metrics import RedisMetrics
from sluice_common.rates.fallback import FallbackRateBuckets
from sluice_common.rates.limiter import RateLimiter
from sluice_common.rates.metrics import RateMetrics
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import Coordination

TIMEOUT_SECONDS: Final = 0.5
"""Longest time that a call waits for Redis; then the process decides alone."""
_CONNECTIONS: Final = 8


@asynccontextmanager
async def open_rate_limiter(
    settings: SluiceSettings, registry: Registry
) -> AsyncIterator[RateLimiter | None]:
    """Yield the limiter, or None without limits.

    Where Redis coordinates, all processes share its buckets, through connections of their own: a
    call must not wait behind chunks. A Redis that does not answer is no error here.
    """
    metrics = registry.group(RateMetrics)
    rates = settings.rates.to_rates()
    if not rates:
        yield None
        return
    local = MemoryRateBuckets()
    if settings.coordination is not Coordination.REDIS:
        yield RateLimiter(local, rates, metrics)
        return
    from sluice_backends.redis.client.connection import RedisClients
    from sluice_backends.redis.rates.buckets import RedisRateBuckets

    options = replace(
        settings.redis.to_options(),
        max_connections=_CONNECTIONS,
        connect_timeout_seconds=TIMEOUT_SECONDS,
        operation_timeout_seconds=TIMEOUT_SECONDS,
    )
    async with AsyncExitStack() as stack:
        clients = RedisClients(options, registry.group(RedisMetrics))
        stack.push_async_callback(clients.aclose)
        buckets = FallbackRateBuckets(RedisRateBuckets(clients), local, metrics.local_decisions.inc)
        yield RateLimiter(
            buckets, rates, metrics, allowance_seconds=settings.rates.allowance_seconds
        )
