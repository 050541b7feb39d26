"""Gates of the processing latency: from a photo's event to its result, at two photos a second."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.deployment import create_drive, deployment
from bench.event_groups import begin_at_the_end
from bench.gates import PROCESSED_SERVICES, PROCESSED_STANDALONE, Result
from bench.latency import Latencies
from bench.measurement import rounds, spread_of, text_of
from bench.processes import READY_SECONDS, load, running, server
from bench.scenario import Effort, Outcome
from bench.scenarios.thumbnails import photos
from sluice_core.ports.event_publisher import UPLOADS_TOPIC

PHOTOS_PER_SECOND: Final = 2.0
_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Target:
    """Destination of the photos."""

    intake: str
    repository: str
    drive: str


@dataclass(frozen=True, slots=True)
class Round:
    services: Latencies
    standalone: Latencies


def run(effort: Effort) -> Outcome:
    """Send two photos of 12 megapixels a second to services (intake, repository, processor) and to
    one process of one machine, in turns.
    """
    with ExitStack() as stack:
        paths = stack.enter_context(photos(effort))
        folder = paths[0].parent
        services = stack.enter_context(on_services())
        standalone = stack.enter_context(in_one_process())
        measured = rounds(
            "PROCESSED",
            effort,
            lambda own: Round(_arriving(own, services, folder), _arriving(own, standalone, folder)),
        )
    services_latencies = [one.services for one in measured]
    standalone_latencies = [one.standalone for one in measured]
    return Outcome(
        results=[
            Result(PROCESSED_SERVICES, spread_of(services_latencies, _p95)),
            Result(PROCESSED_STANDALONE, spread_of(standalone_latencies, _p95)),
        ],
        figures={
            "rounds": len(measured),
            "photos_per_second": PHOTOS_PER_SECOND,
            "photos_per_round": measured[-1].services.count,
            "services_milliseconds": _figures(services_latencies),
            "standalone_milliseconds": _figures(standalone_latencies),
        },
    )


def _p50(latencies: Latencies) -> float:
    return latencies.milliseconds(50.0)


def _p95(latencies: Latencies) -> float:
    return latencies.milliseconds(95.0)


def _slowest(latencies: Latencies) -> float:
    return latencies.milliseconds(100.0)


def _figures(latencies: Sequence[Latencies]) -> dict[str, str]:
    """Return median and spread over the rounds."""
    named = {"p50": _p50, "p95": _p95, "max": _slowest}
    return {name: text_of(latencies, figure) for name, figure in named.items()}


def _arriving(effort: Effort, target: Target, folder: Path) -> Latencies:
    figures = load(
        "bench.load.photo_arrivals",
        *("--target", target.intake, "--repository", target.repository),
        *("--drive", target.drive, "--photos", str(folder)),
        *("--rate", str(PHOTOS_PER_SECOND)),
        *("--seconds", str(1.0 if effort.quick else _SECONDS)),
    )
    return Latencies.from_json(figures["delays"])


@contextmanager
def on_services() -> Iterator[Target]:
    """Run phase 6 with a processor in a separate consumer group."""
    group = f"bench-{uuid.uuid4().hex[:8]}"
    with deployment(6, SLUICE_PROCESSOR__GROUP=group) as sluice:
        brokers = sluice.settings["SLUICE_KAFKA__BOOTSTRAP_SERVERS"]
        asyncio.run(begin_at_the_end(brokers, group, UPLOADS_TOPIC))
        with server(["-m", "sluice_processor"], sluice.settings):
            assert sluice.repository is not None
            yield Target(sluice.intake, sluice.repository, sluice.drive)


@contextmanager
def in_one_process() -> Iterator[Target]:
    """Run `sluice serve` on a temporary data directory."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-data-") as scratch:
        announced = Path(scratch) / "data" / "server.json"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLUICE")},
            **dict.fromkeys(
                (
                    "SLUICE_INTAKE_ADDRESS",
                    "SLUICE_REPOSITORY_ADDRESS",
                    "SLUICE_METRICS_ADDRESS",
                ),
                "127.0.0.1:0",
            ),
            "SLUICE_LOG_LEVEL": "warning",
        }
        command = [sys.executable, "-m", "sluice_standalone", "--data-dir", str(announced.parent)]
        with running(command, environment) as process:
            deadline = time.monotonic() + READY_SECONDS
            while not announced.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the standalone of the benchmark did not start")
                time.sleep(0.02)
            addresses = json.loads(announced.read_text(encoding="utf-8"))
            drive = f"bench-{uuid.uuid4().hex[:8]}"
            create_drive(addresses["repository"], drive)
            yield Target(addresses["intake"], addresses["repository"], drive)
