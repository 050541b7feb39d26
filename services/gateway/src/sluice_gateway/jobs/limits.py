"""Limits of one user: new jobs and posts of progress."""

from __future__ import annotations

from typing import Final

from sluice_common.rates.metrics import RateMetrics
from sluice_core.access.principal import Principal
from sluice_core.ports.rate_buckets import RateBuckets
from sluice_core.rates.model import PERIOD_US, SECOND_US, Bucket, Charge, Rate, RateKind, RateScope
from sluice_gateway.http.refusals import RateLimited, RateLimitPolicy


class UserLimits:
    """Limits per user, over all replicas that share the buckets. 0 means no limit."""

    def __init__(
        self,
        buckets: RateBuckets,
        metrics: RateMetrics,
        *,
        jobs_per_minute: int,
        progress_per_second: int,
    ) -> None:
        self._buckets = buckets
        self._limited = metrics.limited
        self.jobs: Final = _policy(RateKind.JOBS, jobs_per_minute)
        self.progress: Final = _policy(RateKind.PROGRESS, progress_per_second)

    async def admit_job(self, principal: Principal) -> None:
        """Count a new job. Raise `RateLimited`."""
        await self._admit(principal, RateKind.JOBS, self.jobs)

    async def admit_progress(self, principal: Principal) -> None:
        """Count a post of progress. Raise `RateLimited`."""
        await self._admit(principal, RateKind.PROGRESS, self.progress)

    async def _admit(self, principal: Principal, kind: RateKind, policy: RateLimitPolicy) -> None:
        if not policy.amount:
            return
        rate = Rate(policy.amount, PERIOD_US[kind], policy.amount)
        bucket = Bucket(kind, RateScope.SUBJECT, principal.tenant, principal.subject, rate)
        taken = await self._buckets.take([Charge(bucket, 1, 1)], 0.0)
        if not taken.granted:
            self._limited.labels(kind.value, RateScope.SUBJECT.value, "refused").inc()
            raise RateLimited(policy, taken.wait_seconds)


def _policy(kind: RateKind, amount: int) -> RateLimitPolicy:
    return RateLimitPolicy(kind.value, amount, PERIOD_US[kind] // SECOND_US)
