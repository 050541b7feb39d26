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
class Loads:
    """One phase under the loads of a round.

    own: one stream, with a share of a core for each process. shared: the same while all of them
    share the cores of the machine. four: four streams on shared cores; None for phases in between.
    """

    own: Measured
    shared: Measured
    four: Measured | None


Round = Mapping[int, Loads]


def _round(running: Mapping[int, Deployment], effort: Effort) -> Round:
    one, four = common.one_stream(effort), common.four_streams(effort)
    shared = {phase: measure(sluice, one) for phase, sluice in running.items()}
    own = shared
    if effort.core_share is not None:
        processes = {w.pid for sluice in running.values() for w in sluice.watched.values()}
        with limited_share(processes, effort.core_share):
            own = {phase: measure(sluice, one) for phase, sluice in running.items()}
    fours = {phase: measure(running[phase], four) for phase in (min(running), max(running))}
    return {phase: Loads(own[phase], shared[phase], fours.get(phase)) for phase in running}


def _four_rate(loads: Loads) -> float:
    assert loads.four is not None
    return loads.four.rate


def compare(gate: Gate, cost: Gate, name: str, phases: Sequence[int], effort: Effort) -> Outcome:
    """Judge the last of the phases by its ratios to the first one.

    A phase has more processes than the one before. On a machine with fewer cores than processes
    its rate says how the scheduler shares them. So `gate` is the ratio of the rates when each
    process has a share of a core of its own, as pods have. `cost` is the ratio of the processor
    seconds per GiB, which does not depend on the number of cores.

    A measurement ends when every upload is COMPLETED: then the workers have taken all bytes out of
    Redis. The rates on shared cores, and those of acknowledgements, are in the figures.
    """
    first, last = phases[0], phases[-1]
    with ExitStack() as stack:
        running = {phase: stack.enter_context(deployment(phase)) for phase in phases}
        measured = rounds(name, effort, lambda own: _round(running, own))
    return Outcome(
        results=[
            Result(gate, spread_of(measured, lambda r: r[last].own.rate / r[first].own.rate)),
            Result(
                cost,
                spread_of(
                    measured,
                    lambda r: (
                        r[last].shared.cpu_seconds_per_gib / r[first].shared.cpu_seconds_per_gib
                    ),
                ),
            ),
        ],
        figures={
            "rounds": len(measured),
            "redis": dict(REDIS_SETTINGS),
            "core_share_of_each_process": effort.core_share or "none: all share the machine",
            "shared_cores_ratio": text_of(
                measured, lambda r: r[last].shared.rate / r[first].shared.rate, 2
            ),
            "acknowledged_ratio": text_of(
                measured, lambda r: r[last].shared.acknowledged_rate / r[first].shared.rate, 2
            ),
            "four_streams_ratio": text_of(
                measured, lambda r: _four_rate(r[last]) / _four_rate(r[first]), 2
            ),
            **{common.layer(phase): _figures(measured, phase) for phase in phases},
        },
        series=[
            common.layers(
                name,
                {common.layer(phase): [r[phase].shared.rate for r in measured] for phase in phases},
            )
        ],
    )


def _figures(measured: Sequence[Round], phase: int) -> dict[str, object]:
    figures: dict[str, object] = {
        "share_of_a_core": common.figures_of([r[phase].own for r in measured]),
        "one_stream": common.figures_of([r[phase].shared for r in measured]),
        "cpu_seconds_per_gib": text_of(measured, lambda r: r[phase].shared.cpu_seconds_per_gib, 2),
    }
    if fours := [four for r in measured if (four := r[phase].four) is not None]:
        figures["four_streams"] = common.figures_of(fours)
    return figures
