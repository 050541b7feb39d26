"""Resident memory of processes during a load, and its growth over time and over calls."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import linear_regression, mean, median
from typing import Final, Protocol

SETTLING_SECONDS: Final = 60.0
"""Buffers, pools and caches fill in the first minute; only what follows is judged."""
WINDOW_SECONDS: Final = 60.0
_NORMAL_95: Final = 1.96
"""Standard errors from an estimate to the bounds of its 95 % interval, with many samples."""

Counts = Sequence[tuple[float, int]]
"""How many there had been at a moment of `time.monotonic`, in order."""


class Resident(Protocol):
    """Process whose resident memory can be read (bench/usage.py)."""

    @property
    def resident_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Memory:
    """Samples of one process: seconds since `begun`, a `time.monotonic`, and bytes."""

    seconds: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    begun: float = 0.0

    @property
    def peak(self) -> int:
        return max(self.bytes)

    def growth_percent(self) -> float:
        """Return the growth from the settled memory to the end, in %; negative: shrunk.

        Both are medians over a window, or, in a short run, over a quarter of the time: single
        samples fluctuate with what is in flight. Raise ValueError without samples.
        """
        begin, end = growth_windows(self.seconds[-1])
        early = self._median(*begin)
        return (self._median(*end) - early) / early * 100

    def growth_per_call(self, calls: Counts, settling_seconds: float) -> Slope:
        """Return the bytes by which a call makes it grow, after it has settled.

        Least squares over all samples, which says more than medians of two windows: what is in
        flight moves the memory within seconds by more than thousands of calls leave. A short run
        settles for a quarter of its time.

        Raise ValueError when too few samples, or no calls, come after that.
        """
        since = min(settling_seconds, self.seconds[-1] / 4)
        settled = [
            (_count_at(self.begun + at, calls), size)
            for at, size in zip(self.seconds, self.bytes, strict=True)
            if at >= since
        ]
        return Slope.of(settled)

    def _median(self, begin: float, end: float) -> float:
        pairs = list(zip(self.seconds, self.bytes, strict=True))
        within = [size for at, size in pairs if begin <= at <= end]
        # In a run of seconds, a window may lie between two samples.
        return median(within or [min(pairs, key=lambda pair: abs(pair[0] - begin))[1]])


@dataclass(frozen=True, slots=True)
class Slope:
    """A line through samples, and the upper bound of the 95 % interval of its slope."""

    estimate: float
    upper: float

    @staticmethod
    def of(points: Sequence[tuple[float, float]]) -> Slope:
        """Fit it to points (x, y).

        Raise ValueError for fewer than three points, or when all have the same x.
        """
        if len(points) < 3:
            raise ValueError(f"{len(points)} samples are too few for a slope")
        x, y = [point[0] for point in points], [point[1] for point in points]
        middle = mean(x)
        spread = sum((each - middle) ** 2 for each in x)
        if not spread:
            raise ValueError("the samples have no slope: nothing happened between them")
        slope, intercept = linear_regression(x, y)
        residuals = sum((b - slope * a - intercept) ** 2 for a, b in points)
        error = math.sqrt(residuals / (len(points) - 2) / spread)
        return Slope(slope, slope + _NORMAL_95 * error)


def _count_at(moment: float, counts: Counts) -> float:
    """Return the count at a moment, between two known ones in proportion."""
    after = bisect_right(counts, moment, key=lambda known: known[0])
    if after == 0:
        return 0
    before_at, before = counts[after - 1]
    if after == len(counts):
        return before
    after_at, later = counts[after]
    return before + (later - before) * (moment - before_at) / (after_at - before_at)


def growth_windows(duration: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the windows, in seconds, that are compared in a run of this length.

    For a long run: one window right after the first minute, and one at the end. Shorter runs settle
    for a quarter of their time, and have windows of a quarter.
    """
    settling = min(SETTLING_SECONDS, duration / 4)
    window = min(WINDOW_SECONDS, duration / 4)
    return (settling, settling + window), (duration - window, duration)


@contextmanager
def sampling(
    processes: Mapping[str, Resident], every_seconds: float = 1.0
) -> Iterator[Mapping[str, Memory]]:
    """Sample while the block runs; the yielded samples are complete when the block has ended."""
    begun = time.monotonic()
    found = {name: Memory(begun=begun) for name in processes}
    stop = threading.Event()

    def sample() -> None:
        while True:
            for name, process in processes.items():
                found[name].bytes.append(process.resident_bytes)
                found[name].seconds.append(time.monotonic() - begun)
            if stop.wait(every_seconds):
                return

    thread = threading.Thread(target=sample, name="memory-sampling")
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def worst(memories: Sequence[Memory]) -> float:
    """Return the largest growth in %."""
    return max(memory.growth_percent() for memory in memories)
