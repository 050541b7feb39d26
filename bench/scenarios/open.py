"""1,000 uploads open at once, 50 of them streaming as fast as they can: how long an
acknowledgement takes then.

Phase 3: the ledger and the chunks are in Redis, as in any deployment that has so many clients. The
load is a closed loop at saturation, so what is measured contains the wait for the other 49.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.deployment import Deployment, deployment
from bench.gates import OPEN_ACK, Result
from bench.latency import PERCENTILES, Latencies
from bench.measuring import MIB, Measured, rounds, spread_of, text_of, usage_figures
from bench.processes import loading
from bench.scenario import Effort, Outcome, Series

PHASE: Final = 3
UPLOADS: Final = 1000
STREAMS: Final = 50
CHUNK_BYTES: Final = 8 * MIB
"""What GetLimits recommends."""
_LATENCY: Final = "ack_after_last_byte"


def _measure(sluice: Deployment, silent: int, streams: int, seconds: float) -> Measured:
    with loading(
        "bench.load.many_open",
        *("--target", sluice.intake, "--drive", sluice.drive),
        *("--uploads", str(silent), "--streams", str(streams)),
        *("--chunk-bytes", str(CHUNK_BYTES), "--seconds", str(seconds)),
        watching=sluice.watched,
    ) as (figures, usage):
        return Measured(figures, usage)


def run(effort: Effort) -> Outcome:
    uploads, streams = (50, 5) if effort.quick else (UPLOADS, STREAMS)
    with deployment(PHASE) as sluice:
        found = rounds(
            "OPEN",
            effort,
            lambda some: _measure(sluice, uploads - streams, streams, 2 * some.seconds),
        )
    lost = max(uploads - streams - r.figures["idle_streams"] for r in found)
    if lost:
        raise RuntimeError(f"{lost} of the silent streams did not stay open")
    return Outcome(
        results=[Result(OPEN_ACK, spread_of(found, lambda r: r.milliseconds(_LATENCY, 99)))],
        figures={
            "rounds": len(found),
            "phase": PHASE,
            "uploads": uploads,
            "streaming": streams,
            "chunk_bytes": CHUNK_BYTES,
            "mb_per_second": text_of(found, lambda r: r.rate),
            "ack_p50_ms": text_of(found, lambda r: r.milliseconds(_LATENCY, 50), 1),
            "ack_p95_ms": text_of(found, lambda r: r.milliseconds(_LATENCY, 95), 1),
            "errors": [r.figures["errors"] for r in found],
            "throttled": text_of(found, lambda r: r.figures["throttled"]),
            "generator_cpu_share": text_of(found, lambda r: r.generator_cpu_share, 2),
            "processes": usage_figures(found),
        },
        series=[_percentiles(found)],
    )


def _percentiles(found: Sequence[Measured]) -> Series:
    together = Latencies.of([r.figures[_LATENCY] for r in found])
    return Series(
        plot="latency",
        name="acknowledgement after the last byte",
        x=list(PERCENTILES),
        y=[together.milliseconds(percent) for percent in PERCENTILES],
        unit="ms",
    )
