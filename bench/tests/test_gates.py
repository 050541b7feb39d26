"""Gates: each can fail, and each scenario measures its own."""

from __future__ import annotations

import math

import pytest

from bench.figures import Spread
from bench.gates import GATES, Better, Gate, Result
from bench.scenarios import NAMES, SCENARIOS

EVERY = [gate for gates in GATES.values() for gate in gates]


def beyond(gate: Gate, bound: float, by: float) -> float:
    """Return a value that misses the bound by so much."""
    return bound - by if gate.better is Better.HIGHER else bound + by


def test_scenarios_and_gates_match() -> None:
    assert set(GATES) == set(NAMES) == set(SCENARIOS)
    names = [gate.name for gate in EVERY]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("gate", EVERY, ids=lambda gate: gate.name)
def test_gate_passes_at_its_bounds_and_fails_just_beyond(gate: Gate) -> None:
    assert Result(gate, Spread.of([gate.aim])).verdict == "pass, aim reached"
    if gate.must is None:
        missed = Result(gate, Spread.of([beyond(gate, gate.aim, 1e-6)]))
        assert missed.passed
        assert not missed.reaches_aim
        return
    assert Result(gate, Spread.of([gate.must])).passed
    assert Result(gate, Spread.of([beyond(gate, gate.must, 1e-6)])).verdict == "FAIL"


@pytest.mark.parametrize("gate", EVERY, ids=lambda gate: gate.name)
def test_nan_fails(gate: Gate) -> None:
    assert Result(gate, Spread.of([math.nan])).verdict == "FAIL"


@pytest.mark.parametrize("gate", EVERY, ids=lambda gate: gate.name)
def test_aim_is_at_least_as_strict_as_the_bound(gate: Gate) -> None:
    assert gate.must is None or gate.reaches(gate.aim, gate.must)


def test_one_bad_round_fails_nothing_and_three_of_five_do() -> None:
    gate, _ = GATES["P3"]
    assert Result(gate, Spread.of([0.1, 0.95, 0.95, 0.95, 0.95])).passed
    assert not Result(gate, Spread.of([0.1, 0.1, 0.1, 0.95, 0.95])).passed
