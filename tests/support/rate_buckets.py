"""Token buckets of the contract, whose time can be moved. Add a backend by one line in ALL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle

from redis import Redis

from sluice_backends.memory.rates import MemoryRateBuckets
from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.options import RedisOptions
from sluice_backends.redis.rates.buckets import RedisRateBuckets
from sluice_core.ports.rate_buckets import RateBuckets
from sluice_core.rates.model import SECOND_US, Bucket, Charge, Rate, RateKind, RateScope, Taken
from support.redis_server import OPERATION_SECONDS, RedisServer, shared_cluster, shared_server

HOUR_US = 3600 * SECOND_US


@dataclass(slots=True)
class MovedClock:
    """A clock that stands still until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class TimedBuckets:
    """Buckets, and a function that lets this many seconds pass."""

    buckets: RateBuckets
    advance: Callable[[float], None]

    async def take(self, *charges: Charge, longest_wait_seconds: float = 0.0) -> Taken:
        return await self.buckets.take(charges, longest_wait_seconds)


class AlternatingBuckets:
    """Forwards each call to the next of several, as from several processes."""

    def __init__(self, *buckets: RateBuckets) -> None:
        self._next = cycle(buckets)

    async def take(self, charges: Sequence[Charge], longest_wait_seconds: float) -> Taken:
        return await next(self._next).take(charges, longest_wait_seconds)


Factory = Callable[[], AbstractAsyncContextManager[TimedBuckets]]


@asynccontextmanager
async def memory() -> AsyncIterator[TimedBuckets]:
    clock = MovedClock()

    def advance(seconds: float) -> None:
        clock.now += seconds

    yield TimedBuckets(MemoryRateBuckets(clock), advance)


@asynccontextmanager
async def redis() -> AsyncIterator[TimedBuckets]:
    server = shared_server()
    server.flush()
    options = RedisOptions(server.url, operation_timeout_seconds=OPERATION_SECONDS)
    async with open_redis(options) as clients:
        yield TimedBuckets(RedisRateBuckets(clients), lambda by: age_buckets([server], by))


@asynccontextmanager
async def redis_two_processes() -> AsyncIterator[TimedBuckets]:
    server = shared_server()
    server.flush()
    options = RedisOptions(server.url, operation_timeout_seconds=OPERATION_SECONDS)
    async with open_redis(options) as first, open_redis(options) as second:
        buckets = AlternatingBuckets(RedisRateBuckets(first), RedisRateBuckets(second))
        yield TimedBuckets(buckets, lambda by: age_buckets([server], by))


@asynccontextmanager
async def redis_cluster() -> AsyncIterator[TimedBuckets]:
    cluster = shared_cluster()
    cluster.flush()
    options = RedisOptions(cluster.url, cluster=True, operation_timeout_seconds=OPERATION_SECONDS)
    async with open_redis(options) as clients:
        yield TimedBuckets(RedisRateBuckets(clients), lambda by: age_buckets(cluster.servers, by))


ALL: list[Factory] = [memory, redis, redis_two_processes, redis_cluster]


def age_buckets(servers: Sequence[RedisServer], seconds: float) -> None:
    """Set the times in all buckets back, as if this many seconds had passed."""
    for server in servers:
        with server.client() as client:
            for key in client.scan_iter("sluice:rate:*", count=1000):
                _age_bucket(client, key, round(seconds * SECOND_US))


def _age_bucket(client: Redis, key: bytes, by_us: int) -> None:
    stored = client.get(key)
    assert isinstance(stored, bytes)
    content, at_us = (int(each) for each in stored.split(b":"))
    client.set(key, f"{content}:{at_us - by_us}", keepttl=True)


def per_hour(amount: int, burst: int) -> Rate:
    """Return a rate that is slow enough for the time of a test not to matter."""
    return Rate(amount, HOUR_US, burst)


def bucket_of(
    rate: Rate,
    tenant: str = "t",
    subject: str = "",
    kind: RateKind = RateKind.CALLS,
) -> Bucket:
    scope = RateScope.SUBJECT if subject else RateScope.TENANT
    return Bucket(kind, scope, tenant, subject, rate)
