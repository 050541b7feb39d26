"""The contract of token buckets, on every backend and from two processes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import cast

import pytest

from sluice_core.rates.model import SECOND_US, Charge, RateKind
from support.rate_buckets import ALL, HOUR_US, Factory, TimedBuckets, bucket_of, per_hour

SLOW = per_hour(10, burst=3)
TOKEN_SECONDS = 360.0


@pytest.fixture(params=ALL, ids=lambda factory: cast(str, factory.__name__))
async def timed(request: pytest.FixtureRequest) -> AsyncIterator[TimedBuckets]:
    factory = cast(Factory, request.param)
    async with factory() as opened:
        yield opened


def one(amount: int = 1, *, tenant: str = "t", subject: str = "") -> Charge:
    return Charge(bucket_of(SLOW, tenant, subject), amount, amount)


async def test_burst_is_granted_and_then_refused(timed: TimedBuckets) -> None:
    for _ in range(3):
        assert (await timed.take(one())).granted
    refused = await timed.take(one())
    assert not refused.granted
    assert refused.wait_seconds == pytest.approx(TOKEN_SECONDS, abs=60)


async def test_one_token_returns_after_its_time(timed: TimedBuckets) -> None:
    await timed.take(one(amount=3))
    timed.advance(TOKEN_SECONDS - 60)
    assert not (await timed.take(one())).granted
    timed.advance(60)
    assert (await timed.take(one())).granted
    assert not (await timed.take(one())).granted


async def test_full_bucket_holds_no_more_than_the_burst(timed: TimedBuckets) -> None:
    await timed.take(one())
    timed.advance(100 * TOKEN_SECONDS)
    assert (await timed.take(one(amount=3))).granted
    assert not (await timed.take(one())).granted


async def test_charges_are_taken_all_or_none(timed: TimedBuckets) -> None:
    tenant, subject = bucket_of(SLOW), bucket_of(SLOW, subject="s")
    await timed.take(Charge(subject, 3, 3))
    refused = await timed.take(Charge(tenant, 1, 1), Charge(subject, 1, 1))
    assert (refused.granted, refused.limiting) == (False, 1)
    assert (await timed.take(Charge(tenant, 3, 3))).granted, "the tenant paid for the refused call"


async def test_wanted_is_taken_only_when_all_of_it_is_there(timed: TimedBuckets) -> None:
    bucket = bucket_of(SLOW)
    ahead = await timed.take(Charge(bucket, 1, 2))
    assert (ahead.granted, ahead.extra) == (True, True)
    needed = await timed.take(Charge(bucket, 1, 2))
    assert (needed.granted, needed.extra) == (True, False)
    assert not (await timed.take(Charge(bucket, 1, 2))).granted


async def test_waiting_callers_are_served_in_turn(timed: TimedBuckets) -> None:
    await timed.take(one(amount=3))
    patient = 3.5 * TOKEN_SECONDS
    waits = [(await timed.take(one(), longest_wait_seconds=patient)).wait_seconds for _ in range(3)]
    assert waits == pytest.approx([n * TOKEN_SECONDS for n in (1, 2, 3)], abs=60)
    refused = await timed.take(one(), longest_wait_seconds=patient)
    assert not refused.granted
    assert refused.wait_seconds == pytest.approx(4 * TOKEN_SECONDS, abs=60)


async def test_charge_above_the_burst_leaves_a_debt(timed: TimedBuckets) -> None:
    await timed.take(one())
    assert not (await timed.take(one(amount=5))).granted, "the bucket is not full"
    timed.advance(TOKEN_SECONDS)
    assert (await timed.take(one(amount=5))).granted
    timed.advance(2 * TOKEN_SECONDS)
    assert not (await timed.take(one())).granted
    timed.advance(TOKEN_SECONDS)
    assert (await timed.take(one())).granted


@pytest.mark.parametrize("other", ["u", "t}", "{t", "t}:calls", "}", "ü"])
async def test_tenants_have_buckets_of_their_own(timed: TimedBuckets, other: str) -> None:
    await timed.take(one(amount=3))
    both = [one(tenant=other), one(tenant=other, subject="s{:}")]
    assert (await timed.take(*both)).granted


async def test_kinds_and_subjects_have_own_buckets(timed: TimedBuckets) -> None:
    await timed.take(one(amount=3))
    await timed.take(one(amount=3, subject="a"))
    uploads = Charge(bucket_of(SLOW, kind=RateKind.UPLOADS), 1, 1)
    assert (await timed.take(uploads, one(subject="b"), one(subject="tenant"))).granted


async def test_concurrent_callers_share_one_bucket(timed: TimedBuckets) -> None:
    answers = await asyncio.gather(*(timed.take(one()) for _ in range(20)))
    assert sum(answer.granted for answer in answers) == 3


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(5))
async def test_random_charges_never_exceed_burst_and_rate(timed: TimedBuckets, seed: int) -> None:
    """The seconds that the test itself takes are worth less than a tenth of a token."""
    choose, rate = random.Random(seed), per_hour(10, burst=7)
    now, admitted = 0.0, [(0.0, 0)]
    for _ in range(60):
        pause = choose.choice([0.0, 0.0, 60.0, TOKEN_SECONDS, 900.0])
        timed.advance(pause)
        now += pause
        needed = choose.randint(1, 4)
        wanted = needed + choose.randint(0, 3)
        taken = await timed.take(
            Charge(bucket_of(rate), needed, wanted),
            longest_wait_seconds=choose.choice([0.0, 400.0]),
        )
        if taken.granted:
            admitted.append((now + taken.wait_seconds, wanted if taken.extra else needed))
    assert len(admitted) > 10
    for start, _ in admitted:
        for end, _ in admitted:
            inside = sum(size for at, size in admitted if start <= at <= end)
            if end >= start:
                regained = Fraction(end - start) * 10 * SECOND_US / HOUR_US
                assert inside <= 7 + regained + Fraction(1, 10)
