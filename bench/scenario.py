"""Interface of the scenarios: the effort to spend and the measured outcome. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.gates import Result


@dataclass(frozen=True, slots=True)
class Effort:
    """Size of a scenario.

    `rounds`: repetitions of the compared measurements, alternating within each. `seconds`: duration
    of one measurement, where a scenario measures by time. `quick`: only show that it works: sizes
    may shrink as well, and no figure is judged. `sustained_seconds`: duration of each phase of the
    sustained run. `core_share`: in P3 and P4, the share of a core reserved for every process
    (bench/cpu_shares.py); None, in a quick run: all of them share the machine.
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
        """Return the effort of `make bench-quick`: all scenarios in less than two minutes."""
        return Effort(rounds=1, seconds=0.2, quick=True, sustained_seconds=2.0)


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one set of bars, of a plot.

    `plot` names the picture: "throughput" (x: concurrency), "latency" (x: percentile), "layers" (x:
    name of the layer), "memory" (x: seconds) or "cost" (x: chunks in the upload). `unit` is that of
    `y`.
    """

    plot: str
    name: str
    x: Sequence[float | str]
    y: Sequence[float]
    unit: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a scenario.

    `results`: its gates (bench/gates.py), each with the spread of its rounds. `figures`: the
    underlying figures, as JSON.
    """

    results: Sequence[Result]
    figures: Mapping[str, object]
    series: Sequence[Series] = ()


Scenario = Callable[[Effort], Outcome]
