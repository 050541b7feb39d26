"""Gates P3 and P4: a phase against phase 2, on the same load, in turns.

A measurement ends when every upload is COMPLETED: then the workers have taken all bytes out of
Redis. What was merely acknowledged by then is in the figures as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.backends import REDIS_SETTINGS
from bench.deployment import Deployment, deployment
from bench.gates import Gate, Result
from bench.measuring import Measured, measure, rounds, spread_of, text_of
from bench.scenario import Effort, Outcome
from bench.scenarios import common


@dataclass(frozen=True, slots=True)
class Both:
    """One phase under both loads."""

    one: Measured
    four: Measured


Round = Mapping[int, Both]


def _round(running: Mapping[int, Deployment], effort: Effort) -> Round:
    one, four = common.one_stream(effort), common.four_streams(effort)
    singles = {phase: measure(sluice, one) for phase, sluice in running.items()}
    return {phase: Both(singles[phase], measure(sluice, four)) for phase, sluice in running.items()}


def compare(gate: Gate, name: str, phases: Sequence[int], effort: Effort) -> Outcome:
    """Judge the last of the phases by what it makes of the first one's throughput."""
    first, last = phases[0], phases[-1]
    with ExitStack() as stack:
        running = {phase: stack.enter_context(deployment(phase)) for phase in phases}
        found = rounds(name, effort, lambda effort: _round(running, effort))
    return Outcome(
        results=[Result(gate, spread_of(found, lambda r: r[last].one.rate / r[first].one.rate))],
        figures={
            "rounds": len(found),
            "redis": dict(REDIS_SETTINGS),
            "acknowledged_ratio": text_of(
                found, lambda r: r[last].one.acknowledged_rate / r[first].one.rate, 2
            ),
            "four_streams_ratio": text_of(
                found, lambda r: r[last].four.rate / r[first].four.rate, 2
            ),
            **{common.layer(phase): _figures(found, phase) for phase in phases},
        },
        series=[
            common.layers(
                name, {common.layer(phase): [r[phase].one.rate for r in found] for phase in phases}
            )
        ],
    )


def _figures(found: Sequence[Round], phase: int) -> dict[str, object]:
    return {
        "one_stream": common.figures_of([r[phase].one for r in found]),
        "four_streams": common.figures_of([r[phase].four for r in found]),
    }
