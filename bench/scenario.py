"""What a scenario is: it is told how much to do, and returns what it measured. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.gates import Result


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a scenario does.

    `rounds`: repetitions of everything that is compared, alternating within each.
    `seconds`: how long one measurement lasts, where a scenario measures by time.
    `quick`: whether it only has to show that it works: then sizes may shrink as well, and no
    figure is judged.
    `sustained_seconds`: how long each phase of the sustained run lasts.
    `core_share`: of P3 and P4, the share of a core that every process has for itself
    (bench/shares.py); None: all of them share the machine.
    """

    rounds: int
    seconds: float
    quick: bool
    sustained_seconds: float
    core_share: float | None = None

    @staticmethod
    def full(sustained_minutes: float = 10.0) -> Effort:
        return Effort(
            rounds=5, seconds=2.0, quick=False, sustained_seconds=60.0 * sustained_minutes
        )

    @staticmethod
    def small() -> Effort:
        """For `make bench-quick`: all scenarios together in less than two minutes."""
        return Effort(rounds=1, seconds=0.2, quick=True, sustained_seconds=2.0)


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one set of bars, of a plot.

    `plot` names the picture: "throughput" (x: concurrency), "latency" (x: percentile), "layers"
    (x: name of the layer), "memory" (x: seconds) or "cost" (x: chunks in the upload). `unit` is
    that of `y`.
    """

    plot: str
    name: str
    x: Sequence[float | str]
    y: Sequence[float]
    unit: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario found out.

    `results`: its gates (bench/gates.py), each with the spread of its rounds.
    `figures`: what stands behind them, as JSON.
    """

    results: Sequence[Result]
    figures: Mapping[str, object]
    series: Sequence[Series] = ()


Scenario = Callable[[Effort], Outcome]
