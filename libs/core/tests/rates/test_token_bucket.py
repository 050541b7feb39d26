"""Token buckets against a reference in exact fractions."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from sluice_core.rates import token_bucket
from sluice_core.rates.model import SECOND_US, Bucket, Charge, Rate, RateKind, RateScope, Taken
from sluice_core.rates.token_bucket import Level, refill

rates = st.builds(
    Rate,
    amount=st.integers(1, 10**9),
    period_us=st.sampled_from([SECOND_US, 60 * SECOND_US]),
    burst=st.integers(1, 10**9),
)


@dataclass
class ReferenceBucket:
    """The reference: tokens that grow with time, and may be owed."""

    rate: Rate
    tokens: Fraction
    at_us: int = 0

    def refill(self, now_us: int) -> None:
        gained = Fraction((now_us - self.at_us) * self.rate.amount, self.rate.period_us)
        self.tokens = min(Fraction(self.rate.burst), self.tokens + gained)
        self.at_us = now_us

    def take(self, amount: int) -> bool:
        """Take if the tokens are there; more than the burst are lent to a full bucket."""
        if self.tokens < min(amount, self.rate.burst):
            return False
        self.tokens -= amount
        return True


def bucket(rate: Rate) -> Bucket:
    return Bucket(RateKind.BYTES, RateScope.TENANT, "t", "", rate)


def take(
    rate: Rate, level: Level | None, now_us: int, size: int, longest_wait_us: int = 0
) -> tuple[Taken, Level]:
    charge = Charge(bucket(rate), size, size)
    taken, (after,) = token_bucket.take([charge], [refill(rate, level, now_us)], longest_wait_us)
    return taken, after


@given(
    rate=rates,
    steps=st.lists(st.tuples(st.integers(0, 10**8), st.integers(1, 10**9)), max_size=60),
)
def test_decisions_equal_those_of_the_reference(rate: Rate, steps: list[tuple[int, int]]) -> None:
    reference, level, now = ReferenceBucket(rate, Fraction(rate.burst)), None, 0
    for pause, size in steps:
        now += pause
        reference.refill(now)
        taken, level = take(rate, level, now, size)
        assert taken.granted == reference.take(size)


@given(rate=rates)
def test_whole_burst_is_granted_token_by_token(rate: Rate) -> None:
    """Rounding costs no token, at any rate."""
    count, level = min(rate.burst, 100), None
    size, rest = divmod(rate.burst, count)
    for _ in range(count):
        taken, level = take(rate, level, 0, size)
        assert taken.granted
    assert rest == 0 or take(rate, level, 0, rest)[0].granted
    assert not take(rate, level, 0, rest + 1)[0].granted


@given(
    rate=rates,
    steps=st.lists(
        st.tuples(st.integers(0, 10**8), st.integers(1, 10**9), st.integers(0, 10**8)),
        min_size=1,
        max_size=40,
    ),
)
def test_any_window_admits_at_most_burst_and_rate(
    rate: Rate, steps: list[tuple[int, int, int]]
) -> None:
    """Also for callers that wait, and with the largest charge in place of a smaller burst.

    Waits are rounded up to whole microseconds, so a window may seem one shorter than it is.
    """
    admitted: list[tuple[int, int]] = []
    level, now = None, 0
    for pause, size, longest_wait in steps:
        now += pause
        taken, level = take(rate, level, now, size, longest_wait)
        if taken.granted:
            admitted.append((now + round(taken.wait_seconds * SECOND_US), size))
    for start, _ in admitted:
        for end, _ in admitted:
            inside = [size for at, size in admitted if start <= at <= end]
            if end < start:
                continue
            regained = Fraction((end - start + 1) * rate.amount, rate.period_us)
            assert sum(inside) <= max(rate.burst, *inside) + regained


@given(rate=rates, size=st.integers(1, 10**9), owed=st.integers(0, 10**9))
def test_refused_charge_is_granted_after_its_wait(rate: Rate, size: int, owed: int) -> None:
    before = Level(-owed, 0)
    refused, _ = take(rate, before, 0, size)
    assert not refused.granted
    later = round(refused.wait_seconds * SECOND_US)
    assert not take(rate, before, later - 1, size)[0].granted
    assert take(rate, before, later, size)[0].granted
