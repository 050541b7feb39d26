"""One measurement: uploads into a deployment, with the resource usage of each process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from bench.deployment import Deployment
from bench.figures import Spread
from bench.latency import Latencies
from bench.processes import loading
from bench.scenario import Effort
from bench.units import GIB, MB, MIB
from bench.usage import Usage, Watched

WARM_UP_SECONDS: Final = 0.2
"""Seconds that a load, ours or a peer's, sends over its connections before the clock starts."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Load:
    """Options of the generator (bench/load/uploads.py); either `chunks` in all or `seconds`."""

    streams: int = 1
    window: int = 1
    chunk_bytes: int = 16 * MIB
    chunks: int | None = None
    seconds: float | None = None
    unary: bool = False
    complete: bool = False
    uploads: int | None = None
    connections: int = 1
    warm_up: float = WARM_UP_SECONDS

    def arguments(self) -> list[str]:
        found = {
            "mode": "unary" if self.unary else "stream",
            "streams": self.streams,
            "window": self.window,
            "chunk-bytes": self.chunk_bytes,
            "chunks": self.chunks,
            "seconds": self.seconds,
            "uploads": self.uploads,
            "connections": self.connections,
            "warm-up": self.warm_up,
        }
        words = [str(w) for k, v in found.items() if v is not None for w in (f"--{k}", v)]
        return [*words, "--complete"] if self.complete else words


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of the generator and usage of the processes."""

    figures: Mapping[str, Any]
    usage: Mapping[str, Usage]

    @property
    def rate(self) -> float:
        """MB/s until all requested work was done."""
        return float(self.figures["bytes"] / self.figures["seconds"] / MB)

    @property
    def acknowledged_rate(self) -> float:
        """MB/s until the last acknowledgement."""
        return float(self.figures["bytes"] / self.figures["acknowledged_seconds"] / MB)

    @property
    def error_percent(self) -> float:
        """Share of sent chunks that failed (and were resent)."""
        failed: int = sum(self.figures["errors"].values())
        return float(100 * failed / (failed + self.figures["chunks"]))

    @property
    def cpu_seconds_per_gib(self) -> float:
        """Processor seconds per GiB of payload, of all watched processes and of the generator."""
        watched = sum(usage.cpu_seconds for usage in self.usage.values())
        return float((watched + self.figures["cpu_seconds"]) / (self.figures["bytes"] / GIB))

    def latencies(self, name: str) -> Latencies:
        return Latencies.from_json(self.figures[name])

    def milliseconds(self, name: str, percent: float) -> float:
        return self.latencies(name).milliseconds(percent)

    @property
    def generator_cpu_share(self) -> float:
        """CPU seconds of the generator per second of the measurement."""
        return float(self.figures["cpu_seconds"] / self.figures["seconds"])


def measure(sluice: Deployment, load: Load) -> Measured:
    """Send into the deployment from a separate process."""
    return measure_at(
        sluice.intake, load, sluice.watched, *sluice.token_arguments, drive=sluice.drive
    )


def measure_at(
    target: str, load: Load, watching: Mapping[str, Watched], *more: str, drive: str = "bench"
) -> Measured:
    """Send to an intake, or to a server with the same protocol; `more` arguments of the load."""
    with loading(
        "bench.load.uploads",
        *("--target", target, "--drive", drive),
        *load.arguments(),
        *more,
        watching=watching,
    ) as (figures, usage):
        return Measured(figures, usage)


def rounds(name: str, effort: Effort, one_round: Callable[[Effort], T]) -> Sequence[T]:
    """Repeat the compared measurements, after a small unrecorded warm-up round."""
    if not effort.quick:
        say(f"{name}: warming up")
        one_round(Effort.small())
    found = []
    for number in range(1, effort.rounds + 1):
        say(f"{name}: round {number} of {effort.rounds}")
        found.append(one_round(effort))
    return found


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def spread_of(values: Sequence[T], figure: Callable[[T], float]) -> Spread:
    return Spread.of([figure(value) for value in values])


def text_of(values: Sequence[T], figure: Callable[[T], float], digits: int = 0) -> str:
    """Return `median [min … max]` over the rounds."""
    return spread_of(values, figure).text(digits)


class Run(Protocol):
    """Figures of a load, and usage of the processes."""

    @property
    def figures(self) -> Mapping[str, Any]: ...

    @property
    def usage(self) -> Mapping[str, Usage]: ...


def usage_figures(runs: Sequence[Run]) -> dict[str, object]:
    """Return the usage of every process per GiB of payload: medians and spreads over the rounds."""
    found: dict[str, object] = {}
    gib = [run.figures["bytes"] / GIB for run in runs]
    for name in runs[0].usage:
        used = list(zip((run.usage[name] for run in runs), gib, strict=True))
        own: dict[str, object] = {
            "cpu_seconds_per_gib": text_of(used, lambda u: u[0].cpu_seconds / u[1], 2),
            "context_switches_per_gib": text_of(used, lambda u: u[0].context_switches / u[1]),
            "peak_resident_mib": text_of(used, lambda u: u[0].peak_bytes / MIB),
        }
        if all(u.received_bytes is not None and u.sent_bytes is not None for u, _ in used):
            own["received_mib_per_gib"] = text_of(
                used, lambda u: (u[0].received_bytes or 0) / MIB / u[1]
            )
            own["sent_mib_per_gib"] = text_of(used, lambda u: (u[0].sent_bytes or 0) / MIB / u[1])
        found[name] = own
    return found
