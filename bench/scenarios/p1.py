"""Gate P1: the intake alone against raw TCP over loopback.

Memory ledger, bytes discarded on acceptance, CRC32C verified, every chunk acknowledged: nothing but
the way of a block through the intake. Both peers run in processes of their own for the whole
measurement; the configurations alternate within each round, so that what else the machine does
hits them alike. Ratios are taken within a round.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.figures import Spread, percentile
from bench.gates import P1_ACK_FOUR, P1_ACK_ONE, P1_STREAM, P1_UNARY, Result
from bench.processes import Server, Usage, load, server

CHUNK_BYTES = 16 * 1024 * 1024
WINDOW = 2
"""Chunks a stream keeps unacknowledged when throughput is measured: the next one is on its way
while the last is being answered. Latency is measured with one."""

PHASE_1 = {
    "SLUICE_COORDINATION": "memory",
    "SLUICE_CHUNK_TRANSPORT": "local",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
    "SLUICE_INTAKE_ADDRESS": "127.0.0.1:0",
    "SLUICE_METRICS_ADDRESS": "127.0.0.1:0",
    "SLUICE_LOG_LEVEL": "warning",
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each measurement sends."""

    rounds: int
    chunks: int
    latency_chunks: int


FULL = Sizes(rounds=7, chunks=128, latency_chunks=64)
QUICK = Sizes(rounds=2, chunks=8, latency_chunks=8)


@dataclass(slots=True)
class Round:
    """What one round measured: bytes per second and milliseconds."""

    tcp_rate: float
    stream_rate: float
    stream_four_rate: float
    ack_one_p50: float
    ack_one_p95: float
    ack_four_p95: float
    unary_p50: float
    unary_p95: float
    tcp_unary_p95: float
    intake: Usage | None = None


def _rate(figures: dict[str, Any]) -> float:
    size, seconds = figures["bytes"], figures["seconds"]
    assert isinstance(size, int)
    assert isinstance(seconds, float)
    return size / seconds


def _milliseconds(figures: dict[str, Any], name: str, percent: float) -> float:
    return percentile(figures[name], percent) * 1000


def _stream(target: str, streams: int, chunks: int, window: int) -> dict[str, Any]:
    return load(
        "bench.load.intake",
        *("--target", target, "--mode", "stream", "--streams", str(streams)),
        *("--chunks", str(chunks), "--window", str(window)),
    )


def _unary(target: str, chunks: int) -> dict[str, Any]:
    return load("bench.load.intake", "--target", target, "--mode", "unary", "--chunks", str(chunks))


def _tcp(address: str, chunks: int, window: int) -> dict[str, Any]:
    return load(
        "bench.peers.tcp",
        *("--connect", address, "--chunks", str(chunks), "--window", str(window)),
    )


def _measure(intake: Server, tcp: Server, sizes: Sizes) -> Round:
    few = sizes.latency_chunks
    tcp_figures = _tcp(tcp.address, sizes.chunks, WINDOW)
    intake.usage()
    stream = _stream(intake.address, 1, sizes.chunks, WINDOW)
    usage = intake.usage()
    tcp_unary = _tcp(tcp.address, few, 1)
    unary = _unary(intake.address, few)
    one = _stream(intake.address, 1, few, 1)
    four = _stream(intake.address, 4, few, 1)
    four_rate = _stream(intake.address, 4, max(2, sizes.chunks // 4), WINDOW)
    return Round(
        tcp_rate=_rate(tcp_figures),
        stream_rate=_rate(stream),
        stream_four_rate=_rate(four_rate),
        ack_one_p50=_milliseconds(one, "ack_after_last_byte", 50),
        ack_one_p95=_milliseconds(one, "ack_after_last_byte", 95),
        ack_four_p95=_milliseconds(four, "ack_after_last_byte", 95),
        unary_p50=_milliseconds(unary, "round_trips", 50),
        unary_p95=_milliseconds(unary, "round_trips", 95),
        tcp_unary_p95=_milliseconds(tcp_unary, "round_trips", 95),
        intake=usage,
    )


def _spread(rounds: Sequence[Round], figure: Callable[[Round], float]) -> Spread:
    return Spread.of([figure(r) for r in rounds])


def run(sizes: Sizes) -> tuple[list[Result], dict[str, object]]:
    """Measure; returns the judged gates and the figures behind them."""
    rounds: list[Round] = []
    with (
        server(["-m", "bench.peers.tcp"]) as tcp,
        server(["-m", "sluice_intake"], PHASE_1) as intake,
    ):
        print("P1: warming up", file=sys.stderr)
        _measure(intake, tcp, QUICK)
        for number in range(1, sizes.rounds + 1):
            print(f"P1: round {number} of {sizes.rounds}", file=sys.stderr)
            rounds.append(_measure(intake, tcp, sizes))
        resident = intake.usage().resident_bytes

    results = [
        Result(P1_STREAM, _spread(rounds, lambda r: r.stream_rate / r.tcp_rate)),
        Result(P1_ACK_ONE, _spread(rounds, lambda r: r.ack_one_p95)),
        Result(P1_ACK_FOUR, _spread(rounds, lambda r: r.ack_four_p95)),
        Result(P1_UNARY, _spread(rounds, lambda r: r.unary_p95 / r.tcp_unary_p95)),
    ]
    usages = [r.intake for r in rounds if r.intake is not None]
    chunk_gib = sizes.chunks * CHUNK_BYTES / 1024**3
    figures: dict[str, object] = {
        "rounds": sizes.rounds,
        "chunk_bytes": CHUNK_BYTES,
        "chunks_per_round": sizes.chunks,
        "window": WINDOW,
        "raw_tcp_mb_per_second": _text(rounds, lambda r: r.tcp_rate / 1e6, 0),
        "stream_mb_per_second": _text(rounds, lambda r: r.stream_rate / 1e6, 0),
        "four_streams_mb_per_second": _text(rounds, lambda r: r.stream_four_rate / 1e6, 0),
        "ack_p50_ms_one_stream": _text(rounds, lambda r: r.ack_one_p50, 2),
        "unary_p50_ms": _text(rounds, lambda r: r.unary_p50, 1),
        "unary_p95_ms": _text(rounds, lambda r: r.unary_p95, 1),
        "raw_tcp_exchange_p95_ms": _text(rounds, lambda r: r.tcp_unary_p95, 1),
        "intake_cpu_seconds_per_gib": Spread.of([u.cpu_seconds / chunk_gib for u in usages]).text(),
        "intake_context_switches_per_gib": Spread.of(
            [u.context_switches / chunk_gib for u in usages]
        ).text(0),
        "intake_resident_mib_at_end": round(resident / 1024**2),
    }
    return results, figures


def _text(rounds: Sequence[Round], figure: Callable[[Round], float], digits: int) -> str:
    return _spread(rounds, figure).text(digits)
