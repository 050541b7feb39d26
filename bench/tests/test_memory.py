"""Memory growth: judged after it has settled, by medians, and by the slope over calls."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.memory import Memory, Slope, growth_windows, sampling, worst


def memory(*sizes: int, every: float = 1.0) -> Memory:
    return Memory([every * number for number in range(len(sizes))], list(sizes))


def test_growth_in_the_first_minute_is_ignored() -> None:
    filling = [100 + number for number in range(60)]
    assert memory(*filling, *([160] * 540)).growth_percent() == pytest.approx(0, abs=0.1)


def test_leak_is_growth() -> None:
    leaking = [1000 + number for number in range(601)]
    assert memory(*leaking).growth_percent() == pytest.approx(480 / 1090 * 100, rel=0.02)


def test_single_samples_are_ignored() -> None:
    calm = [100] * 600
    calm[70] = calm[590] = 10_000
    assert memory(*calm).growth_percent() == 0


def test_short_run_uses_the_samples_next_to_its_windows() -> None:
    assert memory(100, 110, every=2.0).growth_percent() == pytest.approx(10)


def test_worst_process_counts() -> None:
    assert worst([memory(*[100] * 40), memory(*[100] * 20, *[110] * 20)]) == pytest.approx(10)


@given(st.floats(0.1, 10_000))
def test_windows_are_consecutive_within_the_run(duration: float) -> None:
    (begin, end), (last_begin, last_end) = growth_windows(duration)
    assert 0 < begin < end <= last_begin < last_end == duration


def storm(leak: float, noise: float, seed: int = 0) -> tuple[Memory, list[tuple[float, int]]]:
    """Return ten minutes of 350 cancelled calls a second from a process that begins at 1,000 s.

    It takes 50 MiB in the first two minutes, as buffers do.
    """
    drawn = random.Random(seed)
    sizes = [
        int(200e6 + 50e6 * min(1, at / 120) + leak * 350 * at + drawn.gauss(0, noise))
        for at in range(601)
    ]
    found = Memory(list(map(float, range(601))), sizes, begun=1000.0)
    return found, [(1000.0 + at, 350 * at) for at in range(0, 601, 2)]


@pytest.mark.parametrize("leak", [0.0, 8.0, 40.0, 75.0])
def test_leak_of_a_call_is_found_in_noise(leak: float) -> None:
    """Of 15 MiB, the standard deviation of measured runs; medians of two minutes do not see 40."""
    found, calls = storm(leak, noise=15e6)
    slope = found.growth_per_call(calls, settling_seconds=120)
    assert slope.estimate == pytest.approx(leak, abs=40)
    assert slope.estimate < slope.upper < slope.estimate + 40
    exact, calls = storm(leak, noise=0)
    slope = exact.growth_per_call(calls, settling_seconds=120)
    assert slope.estimate == pytest.approx(leak, abs=0.1)
    assert slope.upper == pytest.approx(leak, abs=0.1)


def test_upper_bound_is_seldom_too_low() -> None:
    """In 2.5 of 100 storms, of independent samples."""
    too_low = 0
    for seed in range(200):
        found, calls = storm(20.0, noise=15e6, seed=seed)
        too_low += found.growth_per_call(calls, settling_seconds=120).upper < 20.0
    assert 0 < too_low <= 12


def test_calls_before_it_has_settled_are_ignored() -> None:
    found, calls = storm(0.0, noise=0)
    assert found.growth_per_call(calls, settling_seconds=0).estimate > 50
    assert found.growth_per_call(calls, settling_seconds=120).estimate == pytest.approx(0, abs=0.1)


def test_no_slope_without_calls_or_samples() -> None:
    with pytest.raises(ValueError, match="nothing happened"):
        memory(*range(10)).growth_per_call([(0.0, 7), (9.0, 7)], settling_seconds=0)
    with pytest.raises(ValueError, match="too few"):
        Slope.of([(0, 0), (1, 1)])


def test_sampling_ends_with_its_block() -> None:
    class Growing:
        size = 0

        @property
        def resident_bytes(self) -> int:
            self.size += 1
            return self.size

    with sampling({"one": Growing()}, every_seconds=0.01) as found:
        pass
    seen = found["one"].bytes
    assert seen[0] == 1
    assert found["one"].peak == len(seen) == len(found["one"].seconds)
