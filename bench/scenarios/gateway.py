"""Scenario GATEWAY: the HTTP API on the real services, with two replicas."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import gates
from bench.figures import Spread
from bench.gates import Result
from bench.gateways import Gateways, gateways
from bench.latency import Latencies
from bench.load.gateway_live import WAYS
from bench.load.gateway_photos import faults
from bench.load.photos import distinct, photo
from bench.measurement import rounds, spread_of, text_of
from bench.processes import loading
from bench.scenario import Effort, Outcome
from bench.units import MB, MIB
from bench.usage import Usage

_SHAPES: Final = ((4000, 3000, 86), (4000, 3000, 91), (4000, 3000, 95), (4600, 3450, 95))
"""Width, height and quality of the photos: 2 to 6 MB. The largest is sent in parts."""
_QUICK_SHAPES: Final = ((400, 300, 90),)
_PARTS_BYTES: Final = 6_000_000
"""More than one PUT takes: a quick run sends one photo in parts too."""

Runs = Sequence[Mapping[str, Any]]
"""What a load has printed, in each round."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is sent in a round."""

    photos: int
    jobs: int
    posts: int
    watched: int
    users: int
    user_seconds: float

    @staticmethod
    def of(effort: Effort) -> Size:
        if effort.quick:
            return Size(photos=4, jobs=3, posts=10, watched=2, users=4, user_seconds=2.0)
        return Size(photos=100, jobs=100, posts=500, watched=60, users=100, user_seconds=30.0)


@dataclass(frozen=True, slots=True)
class Photos:
    """The job of photos: its figures, and the usage of the processes meanwhile."""

    figures: Mapping[str, Any]
    usage: Mapping[str, Usage]
    errors: Counter[str]

    @property
    def seconds(self) -> float:
        return float(self.figures["seconds"])

    @property
    def gateway_percent(self) -> float:
        """Of a core, all replicas together."""
        return sum(self.percent(name) for name in self.usage if name != "database")

    def percent(self, name: str) -> float:
        """Return the share of a core that a process took."""
        return 100 * self.usage[name].cpu_seconds / self.seconds


@dataclass(frozen=True, slots=True)
class Round:
    calls: Mapping[str, Any]
    photos: Photos
    live: Mapping[str, Any]
    users: Mapping[str, Any]


def run(effort: Effort) -> Outcome:
    """Measure calls and users on one replica, photos and live updates through the balancer."""
    with folder_of_photos(effort) as folder, gateways() as api:
        measured = rounds("GATEWAY", effort, lambda own: _round(api, folder, Size.of(own)))
        sizes = [path.stat().st_size for path in folder.iterdir()]
    photos = [each.photos for each in measured]
    calls, users = [each.calls for each in measured], [each.users for each in measured]
    live = [each.live for each in measured]
    return Outcome(
        results=[*_results_of_photos(photos), *_results_of_calls(calls, live, users)],
        figures={
            "rounds": len(measured),
            "photos": len(sizes),
            "photo_megabytes": f"{min(sizes) / MB:.1f} to {max(sizes) / MB:.1f}",
            "create_ms": _percentiles(calls, "create"),
            "progress_ms": _percentiles(calls, "progress"),
            "photos_sent_seconds": text_of(photos, lambda p: p.figures["sent_seconds"], 1),
            "photos_that_failed": [dict(p.errors) for p in photos if p.errors],
            "processes": {name: _usage(photos, name) for name in photos[0].usage},
            "visible_ms": {way: _percentiles(live, way) for way in WAYS},
            "users": text_of(users, lambda u: u["users"]),
            "users_ms": _percentiles(users, "durations"),
            "users_requests_per_second": text_of(users, lambda u: u["requests"] / u["seconds"]),
            "users_requests_that_failed": [u["failed"] for u in users if u["failed"]],
            "users_checks_that_missed": [u["missed_checks"] for u in users if u["missed_checks"]],
        },
    )


def _results_of_photos(photos: Sequence[Photos]) -> Sequence[Result]:
    return [
        Result(gates.GATEWAY_PHOTOS, spread_of(photos, lambda p: p.seconds)),
        # Over all rounds: no photo may fail in any of them.
        Result(gates.GATEWAY_PHOTOS_ERRORS, Spread.of([sum(p.errors.total() for p in photos)])),
        Result(gates.GATEWAY_CPU, spread_of(photos, lambda p: p.gateway_percent)),
        Result(gates.GATEWAY_DATABASE_CPU, spread_of(photos, lambda p: p.percent("database"))),
    ]


def _results_of_calls(calls: Runs, live: Runs, users: Runs) -> Sequence[Result]:
    return [
        Result(gates.GATEWAY_CREATE, _spread(calls, "create", 95)),
        Result(gates.GATEWAY_PROGRESS, _spread(calls, "progress", 95)),
        Result(gates.GATEWAY_QUERY, _spread(live, "query", 99)),
        Result(gates.GATEWAY_SSE, _spread(live, "sse", 99)),
        Result(gates.GATEWAY_STOMP, _spread(live, "stomp", 99)),
        Result(gates.GATEWAY_USERS, _spread(users, "durations", 95)),
        Result(gates.GATEWAY_USERS_ERRORS, spread_of(users, lambda u: u["error_percent"])),
        Result(gates.GATEWAY_USERS_CHECKS, spread_of(users, lambda u: u["check_percent"])),
    ]


def _spread(runs: Runs, name: str, percent: float) -> Spread:
    """Return the spread of a percentile, in milliseconds."""
    return spread_of(runs, lambda run: Latencies.from_json(run[name]).milliseconds(percent))


def _percentiles(runs: Runs, name: str) -> dict[str, str]:
    return {f"p{percent}": _spread(runs, name, percent).text(1) for percent in (50, 95, 99)}


def _usage(photos: Sequence[Photos], name: str) -> dict[str, str]:
    return {
        "cpu_percent": text_of(photos, lambda p: p.percent(name), 1),
        "peak_resident_mib": text_of(photos, lambda p: p.usage[name].peak_bytes / MIB),
    }


@contextmanager
def folder_of_photos(effort: Effort) -> Iterator[Path]:
    """Create the photos, all of them other bytes."""
    shapes = _QUICK_SHAPES if effort.quick else _SHAPES
    pictures = [
        photo(width, height, seed, quality=quality)
        for seed, (width, height, quality) in enumerate(shapes)
    ]
    with tempfile.TemporaryDirectory(prefix="sluice-bench-photos-") as folder:
        for number in range(Size.of(effort).photos):
            padded = _PARTS_BYTES if effort.quick and number == 0 else 0
            content = distinct(pictures[number % len(pictures)], number, padded)
            (Path(folder) / f"{number:05}.jpg").write_bytes(content)
        yield Path(folder)


def _round(api: Gateways, folder: Path, size: Size) -> Round:
    smallest = min(folder.iterdir(), key=lambda path: (path.stat().st_size, path.name))
    return Round(
        calls=_load(
            api,
            "bench.load.gateway_calls",
            *("--gateway", api.first_url, "--jobs", str(size.jobs), "--posts", str(size.posts)),
        ),
        photos=_photos(api, folder),
        live=_load(
            api,
            "bench.load.gateway_live",
            *("--gateway", api.url, "--photo", str(smallest), "--photos", str(size.watched)),
        ),
        users=_load(
            api,
            "bench.load.gateway_users",
            *("--gateway", api.first_url, "--users", str(size.users)),
            *("--seconds", str(size.user_seconds)),
        ),
    )


def _load(api: Gateways, module: str, *arguments: str) -> Mapping[str, Any]:
    with loading(module, *arguments, watching=api.watched) as (figures, _):
        return figures


def _photos(api: Gateways, folder: Path) -> Photos:
    with loading(
        "bench.load.gateway_photos",
        *("--gateway", api.url, "--photos", str(folder)),
        watching=api.watched,
    ) as (figures, usage):
        token, job = figures.pop("token"), figures["job"]
        return Photos(figures, usage, asyncio.run(faults(api.url, token, job)))
