"""Gate P6: P5 with the catalogue, against phase 5, in turns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.deployment import Deployment, create_drive, deployment
from bench.gates import P6_CATALOGUE, Result
from bench.measurement import rounds, spread_of
from bench.scenario import Effort, Outcome
from bench.scenarios import common
from bench.scenarios.files import Sent, figures_of, folder_of, through_sluice
from bench.scenarios.p5 import object_bytes
from sluice.repository.v1 import repository_pb2 as pb

DRIVE = "bench-crc"


@dataclass(frozen=True, slots=True)
class Round:
    without: Sent
    catalogue: Sent


def run(effort: Effort) -> Outcome:
    """Measure both phases.

    The drive's policy is `crc`: the default leaves SHA-256 of large objects to a later job, which
    would run during the next measurement.
    """
    with (
        deployment(5, SLUICE_EVENTS="off") as without,
        deployment(6, SLUICE_EVENTS="off") as catalogue,
        folder_of([object_bytes(effort)]) as folder,
    ):
        assert catalogue.repository is not None
        create_drive(catalogue.repository, DRIVE, pb.DrivePolicy(integrity=pb.INTEGRITY_CRC))
        measured = rounds("P6", effort, lambda _: _round(without, catalogue, folder))
    rates = {
        common.layer(5): [r.without.rate for r in measured],
        common.layer(6): [r.catalogue.rate for r in measured],
    }
    return Outcome(
        results=[
            Result(P6_CATALOGUE, spread_of(measured, lambda r: r.catalogue.rate / r.without.rate))
        ],
        figures={
            "rounds": len(measured),
            "object_bytes": object_bytes(effort),
            "integrity": "crc",
            "phase_5": figures_of([r.without for r in measured]),
            "phase_6": figures_of([r.catalogue for r in measured]),
        },
        series=[common.layers("P6", rates)],
    )


def _round(without: Deployment, catalogue: Deployment, folder: Path) -> Round:
    return Round(
        without=through_sluice(without, folder, in_flight=1),
        catalogue=through_sluice(catalogue, folder, in_flight=1, drive=DRIVE),
    )
