"""Gate P1: the intake alone against raw TCP over loopback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.deployment import Deployment, deployment
from bench.figures import percentile
from bench.gates import (
    P1_ACK_FOUR,
    P1_ACK_ONE,
    P1_STREAM,
    P1_UNARY,
    P1_UNARY_TIME,
    Result,
)
from bench.measurement import Load, Measured, measure, rounds, spread_of, text_of
from bench.processes import Server, server
from bench.scenario import Effort, Outcome
from bench.scenarios import common
from bench.scenarios.common import ACK, ROUND_TRIPS


@dataclass(frozen=True, slots=True)
class Round:
    tcp: Mapping[str, Any]
    echo: Measured
    stream: Measured
    tcp_exchange: Mapping[str, Any]
    echo_unary: Measured
    unary: Measured
    ack_one: Measured
    ack_four: Measured
    four: Measured

    @property
    def tcp_rate(self) -> float:
        return common.rate_of(self.tcp)

    @property
    def tcp_exchange_p95(self) -> float:
        """Milliseconds of one chunk sent and one byte answered."""
        return percentile(self.tcp_exchange["round_trips"], 95) * 1000

    @property
    def unary_p95(self) -> float:
        return self.unary.milliseconds(ROUND_TRIPS, 95)


def _round(tcp: Server, echo: Server, sluice: Deployment, effort: Effort) -> Round:
    few = 8 if effort.quick else 64
    one = Load(chunk_bytes=common.CHUNK_BYTES, chunks=few)
    throughput = common.one_stream(effort, complete=False)
    return Round(
        tcp=common.raw_tcp(tcp, common.chunks(effort)),
        echo=common.echo(echo, throughput),
        stream=measure(sluice, throughput),
        tcp_exchange=common.raw_tcp(tcp, few, window=1),
        echo_unary=common.echo(echo, replace(one, unary=True)),
        unary=measure(sluice, replace(one, unary=True)),
        ack_one=measure(sluice, one),
        ack_four=measure(sluice, replace(one, streams=4, chunks=4 * few)),
        four=measure(sluice, replace(throughput, streams=4)),
    )


def run(effort: Effort) -> Outcome:
    """Measure the path of a block through the intake, raw TCP and a bare grpc.aio echo.

    Memory ledger, bytes discarded on acceptance, CRC32C verified, every chunk acknowledged. The
    echo of the same messages is not judged: from raw TCP to it is the cost of gRPC, from it to the
    intake the cost of Sluice. The peers run in separate processes for the whole measurement; the
    configurations alternate within each round, so that other load on the machine affects them
    alike. Ratios are taken within a round.
    """
    with (
        server(["-m", "bench.peers.tcp"]) as tcp,
        server(["-m", "bench.peers.echo"]) as echo,
        deployment(1) as sluice,
    ):
        measured = rounds("P1", effort, lambda effort: _round(tcp, echo, sluice, effort))
    return Outcome(
        results=[
            Result(P1_STREAM, spread_of(measured, lambda r: r.stream.rate / r.tcp_rate)),
            Result(P1_ACK_ONE, spread_of(measured, lambda r: r.ack_one.milliseconds(ACK, 95))),
            Result(P1_ACK_FOUR, spread_of(measured, lambda r: r.ack_four.milliseconds(ACK, 95))),
            Result(P1_UNARY, spread_of(measured, lambda r: r.unary_p95 / r.tcp_exchange_p95)),
            Result(P1_UNARY_TIME, spread_of(measured, lambda r: r.unary_p95)),
        ],
        figures=_figures(measured),
        series=[
            common.layers(
                "P1",
                {
                    common.RAW_TCP: [r.tcp_rate for r in measured],
                    common.ECHO: [r.echo.rate for r in measured],
                    common.layer(1): [r.stream.rate for r in measured],
                },
            ),
            common.latency("1 stream, after the last byte", [r.ack_one for r in measured], ACK),
            common.latency("4 streams, after the last byte", [r.ack_four for r in measured], ACK),
            common.latency("unary, round trip", [r.unary for r in measured], ROUND_TRIPS),
            common.latency(
                "gRPC echo, unary, round trip", [r.echo_unary for r in measured], ROUND_TRIPS
            ),
        ],
    )


def _figures(measured: Sequence[Round]) -> dict[str, object]:
    return {
        "rounds": len(measured),
        "chunk_bytes": common.CHUNK_BYTES,
        "window": common.WINDOW,
        "raw_tcp_mb_per_second": text_of(measured, lambda r: r.tcp_rate),
        "raw_tcp_exchange_p95_ms": text_of(measured, lambda r: r.tcp_exchange_p95, 1),
        "stream": common.figures_of([r.stream for r in measured]),
        "four_streams": common.figures_of([r.four for r in measured]),
        "unary": common.figures_of([r.unary for r in measured]),
        "unary_p50_ms": text_of(measured, lambda r: r.unary.milliseconds(ROUND_TRIPS, 50), 1),
        "grpc_echo": common.figures_of([r.echo for r in measured]),
        "grpc_echo_unary": common.figures_of([r.echo_unary for r in measured]),
        "grpc_echo_ratio": text_of(measured, lambda r: r.echo.rate / r.tcp_rate, 2),
        "stream_of_grpc_echo": text_of(measured, lambda r: r.stream.rate / r.echo.rate, 2),
        "grpc_echo_unary_p95_ms": text_of(
            measured, lambda r: r.echo_unary.milliseconds(ROUND_TRIPS, 95), 1
        ),
        "ack_p50_ms_one_stream": text_of(measured, lambda r: r.ack_one.milliseconds(ACK, 50), 2),
        "ack_p50_ms_four_streams": text_of(measured, lambda r: r.ack_four.milliseconds(ACK, 50), 2),
    }
