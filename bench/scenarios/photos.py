"""Gate PHOTOS: 100 photos of 2 to 6 MB at once until every node is COMPLETED, without an error.
s3transfer sends the same photos straight to the same S3, in turns.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.deployment import Deployment, deployment
from bench.figures import Spread
from bench.gates import PHOTOS_ERRORS, PHOTOS_RATIO, PHOTOS_TIME, Result
from bench.measurement import rounds, spread_of
from bench.scenario import Effort, Outcome
from bench.scenarios.files import REQUESTS, Sent, figures_of, folder_of, straight, through_sluice
from bench.units import MB

PHOTOS: Final = 100
_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Round:
    straight: Sent
    sluice: Sent


def sizes(effort: Effort) -> Sequence[int]:
    """Return the sizes of the photos, equal in every run: 2 to 6 MB, evenly spread."""
    count = 10 if effort.quick else PHOTOS
    drawn = random.Random(_SEED)
    return [drawn.randint(int(2 * MB), int(6 * MB)) for _ in range(count)]


def run(effort: Effort) -> Outcome:
    """Measure with all features: catalogue, events on Kafka, SHA-256 of every object while it
    streams.
    """
    photos = sizes(effort)
    with deployment(6) as sluice, folder_of(photos) as folder:
        measured = rounds("PHOTOS", effort, lambda _: _round(sluice, folder, len(photos)))
    return Outcome(
        results=[
            Result(PHOTOS_TIME, spread_of(measured, lambda r: r.sluice.seconds)),
            # Over all rounds: no photo may fail in any of them.
            Result(PHOTOS_ERRORS, Spread.of([sum(r.sluice.errors for r in measured)])),
            Result(
                PHOTOS_RATIO, spread_of(measured, lambda r: r.sluice.seconds / r.straight.seconds)
            ),
        ],
        figures={
            "rounds": len(measured),
            "photos": len(photos),
            "bytes": sum(photos),
            "requests_at_once": REQUESTS,
            "sluice": figures_of([r.sluice for r in measured]),
            "s3transfer": figures_of([r.straight for r in measured]),
        },
    )


def _round(sluice: Deployment, folder: Path, count: int) -> Round:
    return Round(
        straight=straight(sluice, folder),
        sluice=through_sluice(sluice, folder, in_flight=count, errors_count=True),
    )
