"""Gate P2: client → intake → repository over gRPC, discarded there, against raw TCP.

As P1 with one more hop: every acknowledgement comes after the repository has the chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.deployment import Deployment, deployment
from bench.gates import P2_ERRORS, P2_STREAM, Result
from bench.measurement import Measured, measure, rounds, spread_of, text_of
from bench.processes import Server, server
from bench.scenario import Effort, Outcome
from bench.scenarios import common


@dataclass(frozen=True, slots=True)
class Round:
    tcp_rate: float
    one: Measured
    four: Measured

    @property
    def error_percent(self) -> float:
        return max(self.one.error_percent, self.four.error_percent)


def _round(tcp: Server, sluice: Deployment, effort: Effort) -> Round:
    return Round(
        tcp_rate=common.rate_of(common.raw_tcp(tcp, common.chunks(effort))),
        one=measure(sluice, common.one_stream(effort)),
        four=measure(sluice, common.four_streams(effort)),
    )


def run(effort: Effort) -> Outcome:
    with server(["-m", "bench.peers.tcp"]) as tcp, deployment(2) as sluice:
        measured = rounds("P2", effort, lambda effort: _round(tcp, sluice, effort))
    return Outcome(
        results=[
            Result(P2_STREAM, spread_of(measured, lambda r: r.one.rate / r.tcp_rate)),
            Result(P2_ERRORS, spread_of(measured, lambda r: r.error_percent)),
        ],
        figures={
            "rounds": len(measured),
            "raw_tcp_mb_per_second": text_of(measured, lambda r: r.tcp_rate),
            "one_stream": common.figures_of([r.one for r in measured]),
            "four_streams": common.figures_of([r.four for r in measured]),
            "four_streams_ratio": text_of(measured, lambda r: r.four.rate / r.tcp_rate, 2),
        },
        series=[
            common.layers(
                "P2",
                {
                    common.RAW_TCP: [r.tcp_rate for r in measured],
                    common.layer(2): [r.one.rate for r in measured],
                },
            )
        ],
    )
