"""Scenario CHUNKS: the cost of a chunk at 100,000 chunks in one upload against that at 1,000."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bench.deployment import deployment
from bench.figures import Spread
from bench.gates import CHUNKS_COST, Result
from bench.measurement import say, spread_of, text_of
from bench.processes import load
from bench.scenario import Effort, Outcome, Series

PHASE: Final = 3
CHUNK_BYTES: Final = 16 * 1024
_MICROSECONDS: Final = 1e6

Round = Mapping[str, Any]


def _wall(measured: Round, age: str) -> float:
    return float(measured[age]["seconds"])


def _cpu(measured: Round, age: str) -> float:
    return float(sum(measured[age]["cpu"].values()))


def wall_ratio(measured: Round) -> float:
    return _wall(measured, "old") / _wall(measured, "young")


def cpu_ratio(measured: Round) -> float:
    return _cpu(measured, "old") / _cpu(measured, "young")


def worse_ratio(measured: list[Round]) -> Spread:
    """Return the ratio, of wall-clock time and CPU, whose median is worse."""
    return max(
        spread_of(measured, wall_ratio), spread_of(measured, cpu_ratio), key=lambda s: s.median
    )


def run(effort: Effort) -> Outcome:
    """Measure phase 3 with chunks of 16 KiB: with chunks so small, nearly all of the cost is per
    chunk.

    Old and young uploads take turns; both are measured while their parts are stored, the old one
    from 100,000 chunks on, the young ones from 1,000 on. Wall-clock time and CPU (intake,
    repository and Redis together) have a ratio each; the worse one is judged.
    """
    chunks, young, step = (2_000, 200, 500) if effort.quick else (100_000, 1_000, 2_000)
    say(f"CHUNKS: {chunks:,} chunks into one upload, then {effort.rounds} rounds")
    with deployment(PHASE) as sluice:
        watched = [f"{name}={process.pid}" for name, process in sluice.watched.items()]
        figures = load(
            "bench.load.growing_upload",
            *("--target", sluice.intake, "--drive", sluice.drive),
            *("--chunks", str(chunks), "--young", str(young), "--step", str(step)),
            *("--chunk-bytes", str(CHUNK_BYTES), "--rounds", str(effort.rounds)),
            *(word for each in watched for word in ("--watch", each)),
        )
    measured: list[Round] = figures["rounds"]
    growth = [seconds * _MICROSECONDS for seconds in figures["growth"]]
    every = figures["marks_every"]
    return Outcome(
        results=[Result(CHUNKS_COST, worse_ratio(measured))],
        figures={
            "rounds": len(measured),
            "phase": PHASE,
            "chunk_bytes": CHUNK_BYTES,
            "chunks_in_old": chunks,
            "chunks_in_young": young,
            "chunks_measured_at_once": step,
            "wall_ratio": text_of(measured, wall_ratio, 2),
            "cpu_ratio": text_of(measured, cpu_ratio, 2),
            "old": _figures(measured, "old"),
            "young": _figures(measured, "young"),
        },
        series=[
            Series(
                plot="cost",
                name="one upload as it grows",
                x=[float(every * (index + 1)) for index in range(len(growth))],
                y=growth,
                unit="µs per chunk",
            )
        ],
    )


def _figures(measured: list[Round], age: str) -> dict[str, object]:
    each = [one[age]["cpu"] for one in measured]
    return {
        "us_per_chunk": text_of(measured, lambda r: _wall(r, age) * _MICROSECONDS),
        "cpu_us_per_chunk": {
            name: Spread.of([cpu[name] * _MICROSECONDS for cpu in each]).text(0) for name in each[0]
        },
    }
