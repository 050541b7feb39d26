"""Arithmetic of token buckets. Pure, in whole numbers, so that nothing is lost to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sluice_core.rates.model import SECOND_US, Charge, Rate, Taken


@dataclass(frozen=True, slots=True)
class Level:
    """Content of a bucket at a time, in tokens × the rate's `period_us`; below 0 it is owed.

    In this unit a microsecond brings `Rate.amount`.
    """

    content: int
    at_us: int


def refill(rate: Rate, level: Level | None, now_us: int) -> Level:
    """Return the level now; None is a bucket that was not used before, or is full.

    If the clock was set back, no time has passed.
    """
    capacity = rate.burst * rate.period_us
    if level is None:
        return Level(capacity, now_us)
    passed_us = max(now_us - level.at_us, 0)
    return Level(min(capacity, level.content + passed_us * rate.amount), now_us)


def is_full(rate: Rate, level: Level, now_us: int) -> bool:
    return refill(rate, level, now_us).content >= rate.burst * rate.period_us


def wait_us(rate: Rate, level: Level, tokens: int) -> int:
    """Return the time until the bucket has the tokens, in microseconds, rounded up.

    More tokens than the burst wait for the full bucket and leave a debt. So any window of `t`
    admits at most rate × t plus the burst, or plus the largest charge if that is larger.
    """
    required = min(tokens, rate.burst) * rate.period_us
    return max(0, -(-(required - level.content) // rate.amount))


def take(
    charges: Sequence[Charge], levels: Sequence[Level], longest_wait_us: int
) -> tuple[Taken, Sequence[Level]]:
    """Decide on charges of several buckets, all or none of them.

    Args:
        levels: of each charge's bucket, refilled.
        longest_wait_us: charges that have to wait longer are refused.

    Returns the answer and the new levels.
    """
    wanted = [each.wanted for each in charges]
    needed = [each.needed for each in charges]
    for tokens, longest in ((wanted, 0), (needed, longest_wait_us)):
        waits = [
            wait_us(charge.bucket.rate, level, amount)
            for charge, level, amount in zip(charges, levels, tokens, strict=True)
        ]
        wait = max(waits)
        if wait <= longest:
            after = [
                Level(level.content - amount * charge.bucket.rate.period_us, level.at_us)
                for charge, level, amount in zip(charges, levels, tokens, strict=True)
            ]
            return Taken(True, tokens is wanted, wait / SECOND_US, waits.index(wait)), after
    return Taken(False, False, wait / SECOND_US, waits.index(wait)), levels
