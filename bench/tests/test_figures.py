"""Statistics behind the gates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Spread, percentile
from bench.gates import P1_ACK_ONE, P1_STREAM, Result


def test_percentile_is_a_sample_by_nearest_rank() -> None:
    samples = [float(n) for n in range(1, 101)]
    assert percentile(samples, 95) == 95
    assert percentile(samples, 100) == 100
    assert percentile([7.0], 50) == 7.0


def test_percentile_without_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_at_least_that_many_samples_do_not_exceed_the_percentile(
    samples: list[float], percent: float
) -> None:
    value = percentile(samples, percent)
    assert sum(s <= value for s in samples) >= len(samples) * percent / 100 - 1e-9


def test_gate_direction_follows_its_kind() -> None:
    """A ratio passes from its bound up, a latency from its bound down."""
    assert Result(P1_STREAM, Spread.of([0.40])).verdict == "pass"
    assert Result(P1_STREAM, Spread.of([0.399])).verdict == "FAIL"
    assert Result(P1_STREAM, Spread.of([0.7])).verdict == "pass, aim reached"
    assert Result(P1_ACK_ONE, Spread.of([20.1])).verdict == "FAIL"
    assert Result(P1_ACK_ONE, Spread.of([3.0])).verdict == "pass, aim reached"


def test_gate_is_judged_by_the_median_of_its_rounds() -> None:
    assert Result(P1_STREAM, Spread.of([0.1, 0.5, 0.9])).passed
