"""Gate SMALL: 1,000 photos of 2 MiB, 100 in flight, until every node is COMPLETED, against
s3transfer with the same files straight to the same S3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.deployment import Deployment, deployment
from bench.figures import percentile
from bench.gates import SMALL_FILES, Result
from bench.measurement import rounds, spread_of, text_of
from bench.scenario import Effort, Outcome
from bench.scenarios.files import REQUESTS, Sent, figures_of, folder_of, straight, through_sluice
from bench.units import MIB

FILE_BYTES: Final = 2 * MIB
IN_FLIGHT: Final = 100


@dataclass(frozen=True, slots=True)
class Round:
    straight: Sent
    sluice: Sent

    def completed_ms(self, percent: float) -> float:
        """Milliseconds of one file, from its first call until its node was COMPLETED."""
        return percentile(self.sluice.figures["round_trips"], percent) * 1000


def run(effort: Effort) -> Outcome:
    """Measure with catalogue, ledger in Redis and SHA-256 of every object while it streams (the
    default policy). Without Kafka, to which s3transfer has no equivalent.
    """
    files = 20 if effort.quick else 1000
    with (
        deployment(6, SLUICE_EVENTS="off") as sluice,
        folder_of([FILE_BYTES] * files) as folder,
        folder_of([] if effort.quick else [FILE_BYTES] * 100, seed=2) as few,
    ):
        measured = rounds(
            "SMALL", effort, lambda own: _round(sluice, folder if own is effort else few)
        )
    return Outcome(
        results=[
            Result(SMALL_FILES, spread_of(measured, lambda r: r.sluice.rate / r.straight.rate))
        ],
        figures={
            "rounds": len(measured),
            "files": files,
            "file_bytes": FILE_BYTES,
            "in_flight": IN_FLIGHT,
            "requests_at_once": REQUESTS,
            "integrity": "sha256_async (single PUTs are hashed in passing)",
            "completed_p50_ms": text_of(measured, lambda r: r.completed_ms(50)),
            "completed_p99_ms": text_of(measured, lambda r: r.completed_ms(99)),
            "sluice": figures_of([r.sluice for r in measured]),
            "s3transfer": figures_of([r.straight for r in measured]),
        },
    )


def _round(sluice: Deployment, folder: Path) -> Round:
    return Round(
        straight=straight(sluice, folder),
        sluice=through_sluice(sluice, folder, in_flight=IN_FLIGHT),
    )
