"""Limits of attempts to guess passwords: by account, by address, and by both."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Final

from sluice_common.rates.metrics import RateMetrics
from sluice_core.errors import ResourceExhausted
from sluice_core.ports.rate_buckets import RateBuckets
from sluice_core.rates.model import MINUTE_US, Bucket, Charge, Rate, RateKind, RateScope
from sluice_gateway.http.addresses import network_of

_TENANT: Final = "accounts!"
"""Tenant of these buckets; `!` is in no tenant's name."""


@dataclass(frozen=True, slots=True)
class GuessRates:
    """Attempts per minute, of which one minute's may be used at once; 0 means no limit.

    per_pair: of one account from one address. Stops a guesser.
    per_account: of one account from everywhere. Stops many guessers. It is higher, because it also
        keeps the owner of the account out.
    per_address: of all accounts from one address. Stops one password for many accounts, and bounds
        what one address costs. A company may share an address.
    """

    per_pair: int = 10
    per_account: int = 60
    per_address: int = 300


class GuessLimits:
    """Counts an attempt before it is checked, so that concurrent ones cannot outrun the count.

    Successful ones count too: returning one would reveal that a password was right, and a guesser
    could use their own account to reset the count of their address.

    An account that does not exist has the same limits.
    """

    def __init__(self, buckets: RateBuckets, rates: GuessRates, metrics: RateMetrics) -> None:
        self._buckets = buckets
        self._rates = rates
        self._limited = metrics.limited

    async def admit(self, email: str, address: str) -> None:
        """Count an attempt. Raise `ResourceExhausted` RATE_LIMITED when there were too many.

        Args:
            email: normalized.
            address: of the client.
        """
        # A digest: the keys of a shared store should name no persons.
        account = hashlib.sha256(email.encode("utf-8")).hexdigest()[:32]
        network = network_of(address)
        limits = (
            (self._rates.per_pair, f"pair/{account}/{network}"),
            (self._rates.per_account, f"account/{account}"),
            (self._rates.per_address, f"address/{network}"),
        )
        charges = [Charge(_bucket(rate, name), 1, 1) for rate, name in limits if rate]
        if not charges:
            return
        taken = await self._buckets.take(charges, 0.0)
        if taken.granted:
            return
        refused = charges[taken.limiting].bucket
        self._limited.labels(refused.kind.value, refused.scope.value, "refused").inc()
        raise ResourceExhausted(
            "RATE_LIMITED",
            "Too many attempts to log in; try again after the delay.",
            retry_after_seconds=math.ceil(taken.wait_seconds * 1000) / 1000,
        )


def _bucket(per_minute: int, name: str) -> Bucket:
    rate = Rate(per_minute, MINUTE_US, per_minute)
    return Bucket(RateKind.GUESSES, RateScope.SUBJECT, _TENANT, name, rate)
