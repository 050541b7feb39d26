"""Token buckets shared by all processes, in one script."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.scripts import load_script
from sluice_backends.redis.client.server import Argument
from sluice_core.rates.model import SECOND_US, Charge, Taken


class RedisRateBuckets:
    """`RateBuckets` on Redis: one round trip per call; the time is that of Redis.

    Own script instead of throttled-py or limits: those take from one bucket per round trip, so a
    call that its subject's bucket refuses would still use up its tenant's.
    """

    def __init__(self, clients: RedisClients) -> None:
        self._clients = clients
        self._script = load_script(__package__, "take_rates")

    async def take(self, charges: Sequence[Charge], longest_wait_seconds: float) -> Taken:
        arguments: list[Argument] = [int(longest_wait_seconds * SECOND_US)]
        for charge in charges:
            rate = charge.bucket.rate
            arguments += (rate.amount, rate.period_us, rate.burst, charge.needed, charge.wanted)
        names = [keys.rate_bucket(charge.bucket) for charge in charges]
        outcome, wait_us, limiting = await self._clients.call(self._script, names, arguments)
        return Taken(outcome > 0, outcome == 2, wait_us / SECOND_US, limiting - 1)
