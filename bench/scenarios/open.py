"""Scenario OPEN: latency of acknowledgements with 1,000 open uploads, 50 of them streaming."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench.deployment import Deployment, deployment
from bench.gates import OPEN_ACK, Result
from bench.measurement import Measured, rounds, spread_of, text_of
from bench.processes import loading
from bench.scenario import Effort, Outcome
from bench.scenarios import common
from bench.units import MB, MIB

PHASE: Final = 3
UPLOADS: Final = 1000
STREAMS: Final = 50
CHUNK_BYTES: Final = 8 * MIB
"""Chunk size that GetLimits recommends."""
PACE: Final = 5 * MB
"""Bytes per second of each client: 40 Mbit/s."""
SINCE_DUE: Final = "since_due"
_FULL_TIMES: Final = 2
_PACED_TIMES: Final = 4
"""Factor on the duration of a measurement: a line takes 1.7 s for a chunk, and of fewer than some
hundred acknowledgements the p99 would be the slowest.
"""


def _measure(
    sluice: Deployment, silent: int, streams: int, seconds: float, pace: float | None = None
) -> Measured:
    with loading(
        "bench.load.open_uploads",
        *("--target", sluice.intake, "--drive", sluice.drive),
        *("--uploads", str(silent), "--streams", str(streams)),
        *("--chunk-bytes", str(CHUNK_BYTES), "--seconds", str(seconds)),
        *(() if pace is None else ("--pace", str(pace))),
        watching=sluice.watched,
    ) as (figures, usage):
        return Measured(figures, usage)


@dataclass(frozen=True, slots=True)
class Round:
    """The same uploads as fast as they can, and at PACE."""

    full: Measured
    paced: Measured


def _round(sluice: Deployment, silent: int, streams: int, seconds: float) -> Round:
    return Round(
        full=_measure(sluice, silent, streams, _FULL_TIMES * seconds),
        paced=_measure(sluice, silent, streams, _PACED_TIMES * seconds, PACE),
    )


def run(effort: Effort) -> Outcome:
    """Measure phase 3, with ledger and chunks in Redis, as in any deployment with so many clients.

    Judged are 50 clients behind lines of 40 Mbit/s, 2 Gbit/s together: all 50 are always in the
    middle of a chunk, each at another point. A block is due when the line has carried it, whether
    or not it could be sent; an acknowledgement is timed from when the last block of its chunk was
    due (open loop, corrected for coordinated omission). The load is equal on every machine: a path
    that cannot carry it falls behind, and the gate fails.

    The same 50 at full speed are measured as well, but not judged. There a chunk waits for the 49
    others on the same cores, and for room in the byte budget: 50 x 8 MiB at once take as long as
    the throughput allows, whatever the path of one chunk costs.
    """
    uploads, streams = (50, 5) if effort.quick else (UPLOADS, STREAMS)
    silent = uploads - streams
    with deployment(PHASE) as sluice:
        measured = rounds(
            "OPEN", effort, lambda some: _round(sluice, silent, streams, some.seconds)
        )
    paced, full = [r.paced for r in measured], [r.full for r in measured]
    if lost := max(silent - m.figures["idle_streams"] for m in (*paced, *full)):
        raise RuntimeError(f"{lost} of the silent streams did not stay open")
    return Outcome(
        results=[Result(OPEN_ACK, spread_of(paced, lambda m: m.milliseconds(SINCE_DUE, 99)))],
        figures={
            "rounds": len(measured),
            "phase": PHASE,
            "uploads": uploads,
            "streaming": streams,
            "chunk_bytes": CHUNK_BYTES,
            "mb_per_second_of_each": PACE / MB,
            "acknowledgements_per_round": text_of(paced, lambda m: m.figures["chunks"]),
            "at_40_mbit_each": common.figures_of(paced),
            "as_fast_as_they_can": common.figures_of(full),
        },
        series=[
            common.latency("40 Mbit/s each, since the last block was due", paced, SINCE_DUE),
            common.latency("as fast as they can, after the last byte", full, common.ACK),
        ],
    )
