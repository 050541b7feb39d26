"""Gate SUSTAINED: errors and memory growth during minutes of full load at phase 1 and at phase 6,
and memory per call in a storm of cancelled calls.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.deployment import Deployment, deployment
from bench.figures import Spread
from bench.gates import (
    SUSTAINED_CANCELLED,
    SUSTAINED_ERRORS_1,
    SUSTAINED_ERRORS_6,
    SUSTAINED_GROWTH_1,
    SUSTAINED_GROWTH_6,
    Gate,
    Result,
)
from bench.latency import Latencies
from bench.measurement import say
from bench.memory import Memory, Slope, sampling, worst
from bench.processes import LOAD_SECONDS, loading
from bench.scenario import Effort, Outcome, Series
from bench.units import MB, MIB
from bench.usage import Usage

FORGETTING: Final = {
    "SLUICE_LIFETIMES__CLEANUP_AGAIN_SECONDS": "5",
    "SLUICE_LIFETIMES__FORGET_AFTER_SECONDS": "10",
    "SLUICE_SWEEPER__INTERVAL_SECONDS": "5",
}
STREAMS: Final = 4
CHUNKS_PER_UPLOAD: Final = 16
CHUNK_BYTES: Final = 8 * MIB
MOST_OF_DISK: Final = 1 / 3
STORM_PHASE: Final = 3
"""With Redis, every cancelled call leaves staged bytes to drop; further backends see only complete
chunks.
"""
CALLERS: Final = 20
STORM_SETTLING_SECONDS: Final = 120.0
"""Buffers and malloc's arenas reach their size in the first minutes of a storm."""
OUR_SERVICES: Final = ("intake", "repository")
_PLOTTED_SAMPLES: Final = 300


class _Run:
    """A load that ran for a long time, and the memory of every process."""

    def __init__(
        self,
        figures: Mapping[str, Any],
        usage: Mapping[str, Usage],
        memory: Mapping[str, Memory],
    ) -> None:
        self.figures = figures
        self.usage = usage
        self.memory = memory
        self.pace: float | None = None

    @property
    def error_percent(self) -> float:
        failed: int = sum(self.figures["errors"].values())
        sent: int = failed + self.figures["chunks"]
        return 100 * failed / max(1, sent)

    @property
    def growth_percent(self) -> float:
        """Growth of our process that grew most."""
        return worst([memory for _, memory in self._ours()])

    @property
    def bytes_per_cancelled_call(self) -> Mapping[str, Slope]:
        """What a cancelled call leaves in each of our processes."""
        calls = self.figures["cancelled_until"]
        return {
            name: memory.growth_per_call(calls, STORM_SETTLING_SECONDS)
            for name, memory in self._ours()
        }

    def _ours(self) -> Sequence[tuple[str, Memory]]:
        return [(name, self.memory[name]) for name in OUR_SERVICES if name in self.memory]

    def processes(self) -> dict[str, object]:
        seconds = self.figures["seconds"]
        return {
            name: {
                "growth_percent": round(memory.growth_percent(), 2),
                "peak_mib": round(memory.peak / MIB),
                "resident_mib_at_end": round(memory.bytes[-1] / MIB),
                "cpu_share": round(self.usage[name].cpu_seconds / seconds, 2),
            }
            for name, memory in self.memory.items()
        }

    def series(self, name: str) -> Sequence[Series]:
        return [
            _memory_series(f"{name}: {process}", memory) for process, memory in self.memory.items()
        ]


def _memory_series(name: str, memory: Memory) -> Series:
    every = max(1, len(memory.bytes) // _PLOTTED_SAMPLES)
    return Series(
        plot="memory",
        name=name,
        x=[round(at, 1) for at in memory.seconds[::every]],
        y=[round(size / MIB, 1) for size in memory.bytes[::every]],
        unit="MiB",
    )


def _run(
    sluice: Deployment,
    seconds: float,
    module: str,
    *arguments: str,
) -> _Run:
    with (
        sampling(sluice.watched, every_seconds=min(1.0, seconds / 20)) as memory,
        loading(
            module,
            *("--target", sluice.intake, "--drive", sluice.drive),
            *("--seconds", str(seconds)),
            *arguments,
            watching=sluice.watched,
            limit_seconds=seconds + LOAD_SECONDS,
        ) as (figures, usage),
    ):
        pass
    return _Run(figures, usage, memory)


def _pace(sluice: Deployment, seconds: float) -> float | None:
    """Return the uploads per second that fill no more than a third of the free disk of this
    machine, where the object store is on it; None, as fast as it can, where no disk fills.
    """
    if "s3" not in sluice.backends:
        return None
    free = shutil.disk_usage(Path.cwd()).free
    return free * MOST_OF_DISK / (CHUNKS_PER_UPLOAD * CHUNK_BYTES) / seconds


def _load(phase: int, effort: Effort) -> _Run:
    seconds = effort.sustained_seconds
    say(f"SUSTAINED: phase {phase}, {seconds:g} s")
    with deployment(phase, **FORGETTING) as sluice:
        pace = _pace(sluice, seconds)
        found = _run(
            sluice,
            seconds,
            "bench.load.turnover",
            *("--streams", "1" if effort.quick else str(STREAMS)),
            *("--chunks", "1" if effort.quick else str(CHUNKS_PER_UPLOAD)),
            *("--chunk-bytes", str(CHUNK_BYTES)),
            *(() if pace is None else ("--uploads-per-second", str(pace))),
        )
        found.pace = pace
        return found


def _storm(effort: Effort) -> _Run:
    seconds = effort.sustained_seconds
    say(f"SUSTAINED: cancelled calls, {seconds:g} s")
    with deployment(STORM_PHASE, **FORGETTING) as sluice:
        found = _run(
            sluice,
            seconds,
            "bench.load.cancellations",
            *("--callers", "2" if effort.quick else str(CALLERS)),
        )
    for name in ("cancelled", "finished"):
        if not found.figures[name]:
            raise RuntimeError(f"no call was {name}: {found.figures['errors']}")
    return found


def run(effort: Effort) -> Outcome:
    """Run uploads that begin, complete and are followed by the next.

    Deployments forget ended uploads after seconds instead of a day; with the default they would
    still be filling up when the run ends, by design and not by a leak. Judged is the memory of our
    own processes; that of the backends is in the figures.
    """
    loads = {phase: _load(phase, effort) for phase in (1, 6)}
    storm = _storm(effort)
    left = storm.bytes_per_cancelled_call
    return Outcome(
        results=[
            _result(SUSTAINED_ERRORS_1, loads[1].error_percent),
            _result(SUSTAINED_GROWTH_1, loads[1].growth_percent),
            _result(SUSTAINED_ERRORS_6, loads[6].error_percent),
            _result(SUSTAINED_GROWTH_6, loads[6].growth_percent),
            _result(SUSTAINED_CANCELLED, max(slope.upper for slope in left.values())),
        ],
        figures={
            "settings": FORGETTING,
            "streams": STREAMS,
            "chunks_per_upload": CHUNKS_PER_UPLOAD,
            **{f"phase {phase}": _load_figures(load) for phase, load in loads.items()},
            "calls_given_up": {
                "phase": STORM_PHASE,
                "callers": CALLERS,
                **{
                    name: storm.figures[name]
                    for name in ("seconds", "cancelled", "finished", "errors")
                },
                "bytes_per_cancelled_call": {
                    name: {"slope": round(slope.estimate, 2), "upper_bound": round(slope.upper, 2)}
                    for name, slope in left.items()
                },
                "processes": storm.processes(),
            },
        },
        series=[
            *(series for phase, load in loads.items() for series in load.series(f"phase {phase}")),
            *storm.series("cancelled calls"),
        ],
    )


def _result(gate: Gate, value: float) -> Result:
    return Result(gate, Spread.of([value]))


def _load_figures(load: _Run) -> dict[str, object]:
    figures = load.figures
    latencies = Latencies.from_json(figures["ack_after_last_byte"])
    return {
        "seconds": figures["seconds"],
        "uploads": figures["uploads"],
        "at_most_uploads_per_second": load.pace,
        "mb_per_second": figures["bytes"] / figures["seconds"] / MB,
        "errors": figures["errors"],
        "throttled": figures["throttled"],
        "ack_p50_ms": latencies.milliseconds(50),
        "ack_p99_ms": latencies.milliseconds(99),
        "generator_cpu_share": figures["cpu_seconds"] / figures["seconds"],
        "processes": load.processes(),
    }
