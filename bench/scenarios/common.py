"""Loads that the phases share, so that they are comparable, and the layers of a chunk's path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench.figures import Spread
from bench.latency import PERCENTILES, Latencies
from bench.measurement import (
    WARM_UP_SECONDS,
    Load,
    Measured,
    measure_at,
    text_of,
    usage_figures,
)
from bench.processes import Server, load
from bench.scenario import Effort, Series
from bench.units import MB, MIB

CHUNK_BYTES: Final = 16 * MIB
WINDOW: Final = 2
"""Unacknowledged chunks per stream when throughput is measured: the next one is sent while the last
is being answered. Latency is measured with one.
"""
RAW_TCP: Final = "raw TCP"
ECHO: Final = "gRPC echo"
ACK: Final = "ack_after_last_byte"
ROUND_TRIPS: Final = "round_trips"
"""Names of latencies in the figures of a load."""


def layer(phase: int) -> str:
    """Return the name of a phase in the waterfall of layers."""
    return f"phase {phase}"


def chunks(effort: Effort) -> int:
    """Return the number of CHUNK_BYTES in a measurement of throughput: 1.5 GiB, three times what
    may be queued in Redis.
    """
    return 8 if effort.quick else 96


def one_stream(effort: Effort, *, complete: bool = True) -> Load:
    """Return the load that is judged in phases 1 to 4, used for raw TCP as well."""
    return Load(window=WINDOW, chunk_bytes=CHUNK_BYTES, chunks=chunks(effort), complete=complete)


def four_streams(effort: Effort, *, complete: bool = True) -> Load:
    """Return the load that the SDK makes of a large file, at half the bytes: chunks of 8 MiB, four
    streams.
    """
    return Load(
        streams=4,
        uploads=1,
        window=WINDOW,
        chunk_bytes=CHUNK_BYTES // 2,
        chunks=chunks(effort),
        complete=complete,
    )


def raw_tcp(peer: Server, number: int, window: int = WINDOW) -> Mapping[str, Any]:
    """Measure the exchange without Sluice: one chunk sent, one byte answered."""
    return load(
        "bench.peers.tcp",
        *("--connect", peer.address, "--chunk-bytes", str(CHUNK_BYTES)),
        *("--chunks", str(number), "--window", str(window)),
        *("--warm-up", str(WARM_UP_SECONDS)),
    )


def echo(peer: Server, load: Load) -> Measured:
    """Measure the same load on a bare grpc.aio server that answers the same messages."""
    return measure_at(peer.address, load, {"echo": peer})


def rate_of(figures: Mapping[str, Any]) -> float:
    """Return the MB/s of a peer."""
    return float(figures["bytes"] / figures["seconds"] / MB)


def figures_of(runs: Sequence[Measured]) -> dict[str, object]:
    """Return the figures behind a rate: latencies, errors, processes, the generator."""
    return {
        "mb_per_second": text_of(runs, lambda r: r.rate),
        "acknowledged_mb_per_second": text_of(runs, lambda r: r.acknowledged_rate),
        "ack_p50_ms": text_of(runs, lambda r: r.milliseconds(ACK, 50), 1),
        "ack_p95_ms": text_of(runs, lambda r: r.milliseconds(ACK, 95), 1),
        "ack_p99_ms": text_of(runs, lambda r: r.milliseconds(ACK, 99), 1),
        "error_percent": text_of(runs, lambda r: r.error_percent, 2),
        "throttled": text_of(runs, lambda r: r.figures["throttled"]),
        "generator_cpu_share": text_of(runs, lambda r: r.generator_cpu_share, 2),
        "processes": usage_figures(runs),
    }


def layers(name: str, rates: Mapping[str, Sequence[float]]) -> Series:
    """Return a row of the waterfall: medians measured in the same rounds, in MB/s."""
    return Series(
        plot="layers",
        name=name,
        x=list(rates),
        y=[Spread.of(values).median for values in rates.values()],
        unit="MB/s",
    )


def latency(name: str, runs: Sequence[Measured], which: str) -> Series:
    """Return the percentiles of all rounds together."""
    together = Latencies.of([run.figures[which] for run in runs])
    percentiles = together.percentiles(PERCENTILES)
    return Series(
        plot="latency", name=name, x=list(percentiles), y=list(percentiles.values()), unit="ms"
    )
