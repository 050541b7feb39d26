"""Port of the token buckets that limit rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sluice_core.rates.model import Charge, Taken


class RateBuckets(Protocol):
    """Token buckets, created full at their first use.

    Promise: of all that is granted, at most burst + rate × t proceeds in any time of length t, over
    all processes that share the buckets. A single charge above the burst takes the place of the
    burst in this sum.
    """

    async def take(self, charges: Sequence[Charge], longest_wait_seconds: float) -> Taken:
        """Take all charges or none, as one atomic step.

        A granted charge is taken at once, and the caller proceeds after `wait_seconds`: callers
        that wait are served in the order of their calls. Not idempotent; a lost answer may have
        taken the charges.

        Args:
            charges: at least one, of one tenant, each of another bucket.
            longest_wait_seconds: refuse if the caller would have to wait longer.

        Raise `Unavailable` or `ResourceExhausted` when the backend cannot decide.
        """
        ...
