"""Memory growth: judged after it has settled, and by medians."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.memory import Memory, growth_windows, sampling, worst


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


def test_longer_windows_keep_leaks_and_reduce_noise() -> None:
    leaking = [1000 + number for number in range(601)]
    assert memory(*leaking).growth_percent(120) == pytest.approx(420 / 1120 * 100, rel=0.02)
    fluctuating = [*[100] * 480, *[100] * 60, *[110] * 60]  # for the last minute
    assert memory(*fluctuating).growth_percent() == pytest.approx(10)
    assert memory(*fluctuating).growth_percent(120) <= 5


@given(st.floats(0.1, 10_000), st.sampled_from([60.0, 120.0]))
def test_windows_are_consecutive_within_the_run(duration: float, window_seconds: float) -> None:
    (begin, end), (last_begin, last_end) = growth_windows(duration, window_seconds)
    assert 0 < begin < end <= last_begin < last_end == duration


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
