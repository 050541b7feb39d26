"""Gates P3 and P4: a phase compared with phase 2, on the same load, in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.backends import REDIS_SETTINGS
from bench.cpu_shares import limited_share
from bench.deployment import Deployment, deployment
from bench.gates import Gate, Result
from bench.measurement import Measured, measure, rounds, spread_of, text_of
from bench.scenario import Effort, Outcome
from bench.scenarios import common


@dataclass(frozen=True, slots=True)
class Both:
    """One phase under both loads; intermediate phases only under the first."""

    one: Measured
    four: Measured | None


Round = Mapping[int, Both]


def _round(running: Mapping[int, Deployment], effort: Effort) -> Round:
    one, four = common.one_stream(effort), common.four_streams(effort)
    singles = {phase: measure(sluice, one) for phase, sluice in running.items()}
    fours = {phase: measure(running[phase], four) for phase in (min(running), max(running))}
    return {phase: Both(singles[phase], fours.get(phase)) for phase in running}


def _four_rate(both: Both) -> float:
    assert both.four is not None
    return both.four.rate


def compare(gate: Gate, name: str, phases: Sequence[int], effort: Effort) -> Outcome:
    """Judge the last of the phases by its ratio to the first one's throughput.

    A measurement ends when every upload is COMPLETED: then the workers have taken all bytes out of
    Redis. The rate of acknowledgements is in the figures as well.
    """
    first, last = phases[0], phases[-1]
    with ExitStack() as stack:
        running = {phase: stack.enter_context(deployment(phase)) for phase in phases}
        if effort.core_share is not None:
            processes = {w.pid for sluice in running.values() for w in sluice.watched.values()}
            stack.enter_context(limited_share(processes, effort.core_share))
        measured = rounds(name, effort, lambda effort: _round(running, effort))
    return Outcome(
        results=[Result(gate, spread_of(measured, lambda r: r[last].one.rate / r[first].one.rate))],
        figures={
            "rounds": len(measured),
            "redis": dict(REDIS_SETTINGS),
            "core_share_of_each_process": effort.core_share or "none: all share the machine",
            "acknowledged_ratio": text_of(
                measured, lambda r: r[last].one.acknowledged_rate / r[first].one.rate, 2
            ),
            "four_streams_ratio": text_of(
                measured, lambda r: _four_rate(r[last]) / _four_rate(r[first]), 2
            ),
            **{common.layer(phase): _figures(measured, phase) for phase in phases},
        },
        series=[
            common.layers(
                name,
                {common.layer(phase): [r[phase].one.rate for r in measured] for phase in phases},
            )
        ],
    )


def _figures(measured: Sequence[Round], phase: int) -> dict[str, object]:
    figures: dict[str, object] = {"one_stream": common.figures_of([r[phase].one for r in measured])}
    if fours := [four for r in measured if (four := r[phase].four) is not None]:
        figures["four_streams"] = common.figures_of(fours)
    return figures
