"""Scenario MATRIX: chunk size × concurrency in phase 2, and the peak memory of an intake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench.deployment import deployment
from bench.figures import Spread
from bench.gates import INTAKE_MEMORY, Result
from bench.measurement import Load, Measured, measure, say
from bench.scenario import Effort, Outcome, Series
from bench.scenarios.common import ACK
from bench.units import MIB

CHUNK_MIB: Final = (1, 4, 8, 16, 32, 64)
CONCURRENCY: Final = (1, 2, 4, 8, 16, 32, 64)
WARMED_MIB: Final = 256


@dataclass(frozen=True, slots=True)
class Cell:
    chunk_mib: int
    concurrency: int
    measured: Measured

    def figures(self) -> dict[str, object]:
        run = self.measured
        intake, repository = run.usage["intake"], run.usage["repository"]
        return {
            "mb_per_second": round(run.rate),
            "ack_p50_ms": round(run.milliseconds(ACK, 50), 1),
            "ack_p95_ms": round(run.milliseconds(ACK, 95), 1),
            "errors": run.figures["errors"],
            "intake_peak_mib": round(intake.peak_bytes / MIB),
            "repository_peak_mib": round(repository.peak_bytes / MIB),
        }


def _cells(effort: Effort) -> list[Cell]:
    sizes = (1, 16) if effort.quick else CHUNK_MIB
    concurrency = (1, 4) if effort.quick else CONCURRENCY
    cells = []
    with deployment(2) as sluice:
        for chunk_mib in sizes:
            say(f"MATRIX: chunks of {chunk_mib} MiB")
            for streams in concurrency:
                load = Load(
                    streams=streams,
                    chunk_bytes=chunk_mib * MIB,
                    seconds=effort.seconds / 4,
                    # At least one chunk per stream: for the large ones that is enough.
                    warm_up=0.1 if streams * chunk_mib <= WARMED_MIB else 0.0,
                )
                sluice.servers["intake"].forget_peak()
                sluice.servers["repository"].forget_peak()
                cells.append(Cell(chunk_mib, streams, measure(sluice, load)))
    return cells


def run(effort: Effort) -> Outcome:
    """Measure each cell briefly: as many streams as its concurrency, each with one upload and one
    unacknowledged chunk.
    """
    cells = _cells(effort)
    peaks = [cell.measured.usage["intake"].peak_bytes / MIB for cell in cells]
    # One value without spread: the peak is requested.
    worst = Spread.of([max(peaks)])
    return Outcome(
        results=[Result(INTAKE_MEMORY, worst)],
        figures={f"{cell.chunk_mib}_mib_by_{cell.concurrency}": cell.figures() for cell in cells},
        series=[
            Series(
                plot="throughput",
                name=f"{size} MiB chunks",
                x=[cell.concurrency for cell in cells if cell.chunk_mib == size],
                y=[cell.measured.rate for cell in cells if cell.chunk_mib == size],
                unit="MB/s",
            )
            for size in dict.fromkeys(cell.chunk_mib for cell in cells)
        ],
    )
