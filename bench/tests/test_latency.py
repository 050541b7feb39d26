"""Latencies: three-digit precision, addition, and coordinated omission."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.figures import percentile
from bench.latency import PERCENTILES, Latencies
from bench.load.schedule import Pace, Schedule

SECONDS = st.lists(st.floats(1e-6, 3000), min_size=1, max_size=200)


def latencies_of(samples: list[float]) -> Latencies:
    found = Latencies()
    for sample in samples:
        found.record(sample)
    return found


@settings(deadline=None)  # a busy machine may take long for an example
@given(SECONDS, st.sampled_from(PERCENTILES))
def test_percentile_is_that_of_the_samples_within_three_digits(
    samples: list[float], percent: float
) -> None:
    found = latencies_of(samples).milliseconds(percent)
    assert found == pytest.approx(percentile(samples, percent) * 1000, rel=2e-3, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(SECONDS, SECONDS)
def test_sum_of_rounds_equals_one_recording(one: list[float], other: list[float]) -> None:
    """The rounds are added up from their JSON."""
    sent = [json.loads(json.dumps(latencies_of(each).to_json())) for each in (one, other)]
    together = latencies_of(one + other).to_json()
    assert Latencies.of(sent).to_json() == together
    assert together["count"] == len(one) + len(other)


def test_empty_latencies_have_no_percentile_and_can_be_added() -> None:
    assert Latencies.of([Latencies().to_json()]).count == 0
    with pytest.raises(ValueError, match="no samples"):
        Latencies().milliseconds(50)


def test_longer_than_an_hour_counts_as_an_hour() -> None:
    assert latencies_of([1e6]).milliseconds(100) == pytest.approx(3600e3, rel=2e-3)


class Time:
    """Clock that advances only by sleeping and by the measured server."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def measured(rate: float | None, *, stalls_at: int, chunks: int) -> Latencies:
    """Measure a server that answers within a millisecond, and once after a second."""
    time = Time()
    schedule = Schedule(chunks=chunks, rate=rate, clock=time, sleep=time.sleep)
    found = Latencies()
    sent = 0
    while (due := await schedule.take()) is not None:
        time.now += 1.0 if sent == stalls_at else 0.001
        sent += 1
        found.record(time.now - due)
    return found


async def test_open_loop_counts_a_stall_for_every_due_chunk() -> None:
    found = await measured(100, stalls_at=50, chunks=200)
    # Of 200 that were due in two seconds, half fell due during the stall of one, or queued behind
    # it: a quarter of all waited for more than 0.5 s.
    assert found.count == 200
    assert found.milliseconds(70) > 300
    assert found.milliseconds(95) > 800
    assert found.milliseconds(20) == pytest.approx(1, rel=0.01)


async def test_closed_loop_counts_a_stall_once() -> None:
    found = await measured(None, stalls_at=50, chunks=200)
    assert found.milliseconds(99) == pytest.approx(1, rel=0.01)
    assert found.milliseconds(100) == pytest.approx(1000, rel=0.01)


async def test_open_loop_keeps_its_rate() -> None:
    time = Time()
    schedule = Schedule(seconds=1.0, rate=10, clock=time, sleep=time.sleep)
    due = []
    while (at := await schedule.take()) is not None:
        due.append(at - 100)
    assert due == pytest.approx([number / 10 for number in range(10)])


async def test_schedule_ends_on_time_with_late_senders() -> None:
    time = Time()
    schedule = Schedule(seconds=1.0, rate=1000, clock=time, sleep=time.sleep)
    taken = 0
    while await schedule.take() is not None:
        taken += 1
        time.now += 0.3
    assert taken == 4


async def test_paced_block_is_due_when_its_line_has_carried_it() -> None:
    time = Time()
    pace = Pace(1000, time.now, clock=time, sleep=time.sleep)
    assert await pace.take(500) == time.now == pytest.approx(100.5)
    time.now += 2.0
    # Late, but due as if there had been no delay, and not waited for.
    assert await pace.take(500) == pytest.approx(101.0)
    assert time.now == pytest.approx(102.5)
    assert [await pace.take(1000), await pace.take(1000)] == pytest.approx([102.0, 103.0])
    assert time.now == pytest.approx(103.0)


def test_schedule_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="ends"):
        Schedule()
