"""Overhead of the harness: its clock, its histogram, the CPU of its generator."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from bench.figures import Spread
from bench.latency import Latencies

ROUNDS: Final = 5
_CALLS: Final = 20_000
CLOCKS_PER_CHUNK: Final = 4
"""Clock readings per chunk (bench/load/chunk_sender.py): due, first, last byte, acknowledgement."""
RECORDS_PER_CHUNK: Final = 2
"""Latencies recorded per chunk: after the last byte, and the round trip."""


def measure(calls: int = _CALLS) -> dict[str, object]:
    """Return nanoseconds per call, and per chunk in total; medians of `ROUNDS` rounds.

    Clock and histogram are used for every measured chunk. The generator's CPU, which the servers
    could have had since all share the cores, is in every measurement (`generator_cpu_share`).
    """
    latencies = Latencies()
    clock = time.perf_counter

    def records() -> None:
        record = latencies.record
        for number in range(calls):
            # Spread over the buckets as latencies are: a single value would stay in the cache.
            record(1e-4 + number % 1000 * 1e-5)

    def readings() -> None:
        for _ in range(calls):
            clock()

    clock_ns = _nanoseconds(readings, calls)
    record_ns = _nanoseconds(records, calls)
    chunk_us = (CLOCKS_PER_CHUNK * clock_ns.median + RECORDS_PER_CHUNK * record_ns.median) / 1000
    return {
        "clock_ns": clock_ns.text(0),
        "clock_resolution_ns": round(time.get_clock_info("perf_counter").resolution * 1e9),
        "histogram_record_ns": record_ns.text(0),
        "per_chunk_us": round(chunk_us, 2),
    }


def _nanoseconds(repeat: Callable[[], None], calls: int) -> Spread:
    rounds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter_ns()
        repeat()
        rounds.append((time.perf_counter_ns() - begun) / calls)
    return Spread.of(rounds)
