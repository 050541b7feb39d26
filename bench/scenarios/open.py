"""1,000 uploads open at once, 50 of them streaming: how long an acknowledgement takes then.

Phase 3: the ledger and the chunks are in Redis, as in any deployment that has so many clients. Each
round first lets the 50 send as fast as they can; that is the capacity. Latency is judged at half of
it, with chunks due at a constant rate whoever is late (open loop): at saturation what a client
waits for is its turn among the other 49, and grows with the chunks that they all happen to send.
The figures at saturation are in the report as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
SHARE: Final = 0.5
_LATENCY: Final = "ack_after_last_byte"


def _measure(
    sluice: Deployment, silent: int, streams: int, seconds: float, rate: float | None = None
) -> Measured:
    with loading(
        "bench.load.many_open",
        *("--target", sluice.intake, "--drive", sluice.drive),
        *("--uploads", str(silent), "--streams", str(streams)),
        *("--chunk-bytes", str(CHUNK_BYTES), "--seconds", str(seconds)),
        *(() if rate is None else ("--rate", str(rate))),
        watching=sluice.watched,
    ) as (figures, usage):
        return Measured(figures, usage)


@dataclass(frozen=True, slots=True)
class Round:
    """The same uploads at full speed, and at SHARE of it."""

    full: Measured
    paced: Measured


def _round(sluice: Deployment, silent: int, streams: int, seconds: float) -> Round:
    full = _measure(sluice, silent, streams, seconds)
    chunks_per_second = full.figures["chunks"] / full.figures["seconds"]
    return Round(full, _measure(sluice, silent, streams, seconds, SHARE * chunks_per_second))


def run(effort: Effort) -> Outcome:
    uploads, streams = (50, 5) if effort.quick else (UPLOADS, STREAMS)
    with deployment(PHASE) as sluice:
        found = rounds(
            "OPEN",
            effort,
            lambda some: _round(sluice, uploads - streams, streams, 2 * some.seconds),
        )
    paced, full = [r.paced for r in found], [r.full for r in found]
    lost = max(uploads - streams - m.figures["idle_streams"] for m in (*paced, *full))
    if lost:
        raise RuntimeError(f"{lost} of the silent streams did not stay open")
    return Outcome(
        results=[Result(OPEN_ACK, spread_of(paced, lambda m: m.milliseconds(_LATENCY, 99)))],
        figures={
            "rounds": len(found),
            "phase": PHASE,
            "uploads": uploads,
            "streaming": streams,
            "chunk_bytes": CHUNK_BYTES,
            "share_of_full_speed": SHARE,
            "paced": _figures(paced),
            "full_speed": _figures(full),
        },
        series=[
            _percentiles(f"at {SHARE:.0%} of full speed", paced),
            _percentiles("at full speed", full),
        ],
    )


def _figures(found: Sequence[Measured]) -> dict[str, object]:
    return {
        "mb_per_second": text_of(found, lambda m: m.rate),
        "ack_p50_ms": text_of(found, lambda m: m.milliseconds(_LATENCY, 50), 1),
        "ack_p95_ms": text_of(found, lambda m: m.milliseconds(_LATENCY, 95), 1),
        "ack_p99_ms": text_of(found, lambda m: m.milliseconds(_LATENCY, 99), 1),
        "errors": [m.figures["errors"] for m in found],
        "throttled": text_of(found, lambda m: m.figures["throttled"]),
        "generator_cpu_share": text_of(found, lambda m: m.generator_cpu_share, 2),
        "processes": usage_figures(found),
    }


def _percentiles(name: str, found: Sequence[Measured]) -> Series:
    together = Latencies.of([m.figures[_LATENCY] for m in found])
    return Series(
        plot="latency",
        name=name,
        x=list(PERCENTILES),
        y=[together.milliseconds(percent) for percent in PERCENTILES],
        unit="ms",
    )
