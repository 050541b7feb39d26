"""Scenario NEIGHBOURS: latency of a tenant beside one that sends ten times as much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.deployment import Deployment, deployment
from bench.gates import NEIGHBOURS, Result
from bench.identity import Identity, identity
from bench.measurement import Measured, rounds, spread_of, text_of
from bench.processes import beside, loading
from bench.scenario import Effort, Outcome
from bench.scenarios import common
from bench.slow_store import STORE_RATE
from bench.units import MB, MIB

PHASE: Final = 3
BUDGET_BYTES: Final = 256 * MIB
STORE_BYTES_PER_SECOND: Final = 40 * MB
"""Less than half of what both send, so that the budget fills; four times what the small one sends,
so that its fair share suffices.
"""
CHUNK_BYTES: Final = 256 * 1024
PACE: Final = 10 * MB
"""Bytes per second of each stream."""
TIMES_AS_MUCH: Final = 10
"""Streams of the large tenant; the small one has one."""
SINCE_DUE: Final = "since_due"
_TIMES: Final = 5
"""Factor on the duration of a measurement: 380 acknowledgements in 10 s, of which the p99 is the
fourth slowest.
"""


@dataclass(frozen=True, slots=True)
class Round:
    """The small tenant alone and beside the large one, and the figures of the latter."""

    alone: Measured
    beside: Measured
    large: Measured

    @property
    def ratio(self) -> float:
        return p99(self.beside) / p99(self.alone)


def p99(run: Measured) -> float:
    """Milliseconds from when a chunk's last block was due until its acknowledgement."""
    return run.milliseconds(SINCE_DUE, 99)


def _arguments(sluice: Deployment, token_file: Path, streams: int) -> Sequence[str]:
    return (
        *("--target", sluice.intake, "--drive", sluice.drive, "--token-file", str(token_file)),
        *("--streams", str(streams), "--pace", str(PACE), "--chunk-bytes", str(CHUNK_BYTES)),
    )


def _small(sluice: Deployment, keys: Identity, seconds: float) -> Measured:
    arguments = _arguments(sluice, keys.token_file("small"), 1)
    with loading(
        "bench.load.tenant", *arguments, "--seconds", str(seconds), watching=sluice.watched
    ) as (figures, usage):
        return Measured(figures, usage)


def _round(sluice: Deployment, keys: Identity, seconds: float) -> Round:
    alone = _small(sluice, keys, seconds)
    large = _arguments(sluice, keys.token_file("large"), TIMES_AS_MUCH)
    with beside("bench.load.tenant", *large, "--flood") as figures:
        measured = _small(sluice, keys, seconds)
    if not figures["throttled_when_full"]:
        raise RuntimeError("the budget was not full while the small tenant was measured")
    if alone.error_percent or measured.error_percent:
        raise RuntimeError("chunks of the small tenant failed; the ratio counts acknowledged ones")
    return Round(alone, measured, Measured(figures, {}))


def run(effort: Effort) -> Outcome:
    """Measure phase 3, with ledger and chunks in Redis and the default bound of a tenant: the
    services have to keep room for the small one, not its operator.

    The store takes STORE_BYTES_PER_SECOND and no processor time, so that the budget is full and the
    processor is not: what is measured is how room is shared. Both tenants send at a pace (open
    loop), the small one through one stream, the large one through ten such streams, and so ten
    times as much; what it cannot send in time it sends as soon as there is room. The small one's
    clock starts only when the intake has delayed as many chunks as the large one has streams. An
    acknowledgement is timed from when the last block of its chunk was due.
    """
    seconds = _TIMES * effort.seconds
    settings = {
        "SLUICE_BUDGET_BYTES": str(BUDGET_BYTES),
        "SLUICE_UPLOAD_BUDGET_BYTES": str(BUDGET_BYTES // 2),
        STORE_RATE: str(STORE_BYTES_PER_SECOND),
    }
    with identity() as keys, deployment(PHASE, keys, **settings) as sluice:
        measured = rounds(
            "NEIGHBOURS", effort, lambda some: _round(sluice, keys, _TIMES * some.seconds)
        )
    alone, beside_it = [r.alone for r in measured], [r.beside for r in measured]
    large = [r.large for r in measured]
    return Outcome(
        results=[Result(NEIGHBOURS, spread_of(measured, lambda r: r.ratio))],
        figures={
            "rounds": len(measured),
            "phase": PHASE,
            "seconds": seconds,
            "budget_bytes": BUDGET_BYTES,
            "tenant_budget_bytes": "default",
            "store_mb_per_second": STORE_BYTES_PER_SECOND / MB,
            "chunk_bytes": CHUNK_BYTES,
            "mb_per_second_of_each_stream": PACE / MB,
            "streams_of_the_large_tenant": TIMES_AS_MUCH,
            "acknowledgements_per_round": text_of(beside_it, lambda m: m.figures["chunks"]),
            "alone_p50_ms": text_of(alone, lambda m: m.milliseconds(SINCE_DUE, 50), 1),
            "alone_p99_ms": text_of(alone, p99, 1),
            "beside_p50_ms": text_of(beside_it, lambda m: m.milliseconds(SINCE_DUE, 50), 1),
            "beside_p99_ms": text_of(beside_it, p99, 1),
            "small_delayed": text_of(beside_it, lambda m: m.figures["throttled"]),
            "small_error_percent": text_of(beside_it, lambda m: m.error_percent, 2),
            "large_mb_per_second": text_of(large, lambda m: m.acknowledged_rate),
            "large_delayed": text_of(large, lambda m: m.figures["throttled_when_full"]),
            "large_error_percent": text_of(large, lambda m: m.error_percent, 2),
            "alone": common.figures_of(alone),
            "beside": common.figures_of(beside_it),
        },
        series=[
            common.latency("small tenant alone, since the last block was due", alone, SINCE_DUE),
            common.latency("beside one that sends ten times as much", beside_it, SINCE_DUE),
        ],
    )
