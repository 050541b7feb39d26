"""Rates, their buckets, and what one call takes from them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US


class RateKind(StrEnum):
    """What is limited; also a label of metrics and a field of refusals."""

    UPLOADS = "uploads"
    CALLS = "calls"
    BYTES = "bytes"
    GUESSES = "guesses"
    """Attempts to prove an identity by a password; they have no tenant yet."""
    JOBS = "jobs"
    PROGRESS = "progress"
    """Posts of progress."""


class RateScope(StrEnum):
    """Whose bucket it is."""

    TENANT = "tenant"
    SUBJECT = "subject"


PERIOD_US: Final = {
    RateKind.UPLOADS: MINUTE_US,
    RateKind.CALLS: SECOND_US,
    RateKind.BYTES: SECOND_US,
    RateKind.GUESSES: MINUTE_US,
    RateKind.JOBS: MINUTE_US,
    RateKind.PROGRESS: SECOND_US,
}
"""Period to which the limit of a kind refers."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit of `amount` per `period_us`, of which `burst` may be taken at once."""

    amount: int
    period_us: int
    burst: int

    def __post_init__(self) -> None:
        if min(self.amount, self.period_us, self.burst) < 1:
            raise ValueError("amount, period and burst start at 1")


@dataclass(frozen=True, slots=True)
class Bucket:
    """One token bucket. `subject` is empty in the bucket of a whole tenant."""

    kind: RateKind
    scope: RateScope
    tenant: str
    subject: str
    rate: Rate


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call takes from one bucket.

    `needed` is what it cannot do without; `wanted`, at least as much, is taken if all of it is
    there, for the calls that follow.
    """

    bucket: Bucket
    needed: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Answer to a call.

    Args:
        granted: the charges were taken; False: nothing was taken from any bucket.
        extra: `wanted` was taken, not only `needed`.
        wait_seconds: when granted, the caller proceeds after this time; otherwise the time after
            which the same call would be granted at once if nobody else took anything.
        limiting: index of the charge with the longest wait.
    """

    granted: bool
    extra: bool
    wait_seconds: float
    limiting: int
