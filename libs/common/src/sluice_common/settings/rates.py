"""Settings of rate limits (docs/tenancy.md)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sluice_common.settings.groups import Group, Seconds, SecondsOrNever
from sluice_core.rates.model import PERIOD_US, SECOND_US, Rate, RateKind, RateScope

Limit = Annotated[int, Field(ge=0, le=10**12)]
"""0 means no limit. Larger ones would not fit the microseconds of a script on Redis."""


class Rates(Group):
    """Rate limits of every tenant, and of every subject of a tenant; 0 means no limit."""

    tenant_uploads_per_minute: Limit = 0
    tenant_calls_per_second: Limit = 0
    tenant_bytes_per_second: Limit = 0
    subject_uploads_per_minute: Limit = 0
    subject_calls_per_second: Limit = 0
    subject_bytes_per_second: Limit = 0
    burst_seconds: Annotated[Seconds, Field(le=3600)] = 10.0
    """How much may be used at once after a pause, as time of the rate."""
    allowance_seconds: Annotated[SecondsOrNever, Field(le=10)] = 0.2
    """With Redis: how long a process may use what it has taken ahead for a busy caller; 0: every
    call asks Redis."""

    @property
    def enabled(self) -> bool:
        return bool(self.to_rates())

    def to_rates(self) -> dict[tuple[RateScope, RateKind], Rate]:
        """Return the rates that are limited."""
        limits = {
            (RateScope.TENANT, RateKind.UPLOADS): self.tenant_uploads_per_minute,
            (RateScope.TENANT, RateKind.CALLS): self.tenant_calls_per_second,
            (RateScope.TENANT, RateKind.BYTES): self.tenant_bytes_per_second,
            (RateScope.SUBJECT, RateKind.UPLOADS): self.subject_uploads_per_minute,
            (RateScope.SUBJECT, RateKind.CALLS): self.subject_calls_per_second,
            (RateScope.SUBJECT, RateKind.BYTES): self.subject_bytes_per_second,
        }
        return {
            key: _rate(limit, PERIOD_US[key[1]], self.burst_seconds)
            for key, limit in limits.items()
            if limit > 0
        }


def _rate(limit: int, period_us: int, burst_seconds: float) -> Rate:
    return Rate(limit, period_us, max(1, int(limit * burst_seconds * SECOND_US / period_us)))
