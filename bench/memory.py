"""Resident memory of processes during a load, and its growth."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Protocol

SETTLING_SECONDS: Final = 60.0
"""Buffers, pools and caches fill in the first minute; only what follows is judged."""
WINDOW_SECONDS: Final = 60.0


class Resident(Protocol):
    """Process whose resident memory can be read (bench/usage.py)."""

    @property
    def resident_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Memory:
    """Samples of one process: seconds since the start, and bytes."""

    seconds: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)

    @property
    def peak(self) -> int:
        return max(self.bytes)

    def growth_percent(self, window_seconds: float = WINDOW_SECONDS) -> float:
        """Return the growth from the settled memory to the end, in %; negative: shrunk.

        Both are medians over a window, or, in a short run, over a quarter of the time: single
        samples fluctuate with what is in flight. Raise ValueError without samples.
        """
        begin, end = growth_windows(self.seconds[-1], window_seconds)
        early = self._median(*begin)
        return (self._median(*end) - early) / early * 100

    def _median(self, begin: float, end: float) -> float:
        pairs = list(zip(self.seconds, self.bytes, strict=True))
        within = [size for at, size in pairs if begin <= at <= end]
        # In a run of seconds, a window may lie between two samples.
        return median(within or [min(pairs, key=lambda pair: abs(pair[0] - begin))[1]])


def growth_windows(
    duration: float, window_seconds: float = WINDOW_SECONDS
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the windows, in seconds, that are compared in a run of this length.

    For a long run: one window right after the first minute, and one at the end. Shorter runs settle
    for a quarter of their time, and have windows of a quarter.
    """
    settling = min(SETTLING_SECONDS, duration / 4)
    window = min(window_seconds, duration / 4)
    return (settling, settling + window), (duration - window, duration)


@contextmanager
def sampling(
    processes: Mapping[str, Resident], every_seconds: float = 1.0
) -> Iterator[Mapping[str, Memory]]:
    """Sample while the block runs; the yielded samples are complete when the block has ended."""
    found = {name: Memory() for name in processes}
    stop = threading.Event()
    begun = time.monotonic()

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


def worst(memories: Sequence[Memory], window_seconds: float = WINDOW_SECONDS) -> float:
    """Return the largest growth in %."""
    return max(memory.growth_percent(window_seconds) for memory in memories)
