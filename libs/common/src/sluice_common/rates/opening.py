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
from sluice_core.ports.rate_buckets import RateBuckets

TIMEOUT_SECONDS: Final = 0.5
"""Longest time that a call waits for Redis; then the process decides alone."""
_CONNECTIONS: Final = 8


@asynccontextmanager
async def open_rate_limiter(
    settings: SluiceSettings, registry: Registry
) -> AsyncIterator[RateLimiter | None]:
    """Yield the limiter, or None without limits."""
    rates = settings.rates.to_rates()
    if not rates:
        yield None
        return
    is_shared = settings.coordination is Coordination.REDIS
    async with open_rate_buckets(settings, registry) as buckets:
        yield RateLimiter(
            buckets,
            rates,
            registry.group(RateMetrics),
            allowance_seconds=settings.rates.allowance_seconds if is_shared else 0.0,
        )


@asynccontextmanager
async def open_rate_buckets(
    settings: SluiceSettings, registry: Registry
) -> AsyncIterator[RateBuckets]:
    """Yield the token buckets of a process.

    Where Redis coordinates, all processes share its buckets, through connections of their own: a
    call must not wait behind chunks. A Redis that does not answer is no error here.
    """
    metrics = registry.group(RateMetrics)
    local = MemoryRateBuckets()
    if settings.coordination is not Coordination.REDIS:
        yield local
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
        yield FallbackRateBuckets(RedisRateBuckets(clients), local, metrics.local_decisions.inc)
