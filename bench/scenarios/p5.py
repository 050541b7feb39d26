"""Gate P5: a large file until its object is in S3, against s3transfer with the same file."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.deployment import Deployment, deployment
from bench.gates import P5_S3, Result
from bench.measurement import rounds, spread_of
from bench.peers.tusd import TusdMissingError, find_tusd, tusd
from bench.processes import load
from bench.scenario import Effort, Outcome
from bench.scenarios import common
from bench.scenarios.files import (
    PART_BYTES,
    REQUESTS,
    Sent,
    figures_of,
    folder_of,
    straight,
    through_sluice,
)
from bench.units import MIB

S3TRANSFER = "s3transfer"


def object_bytes(effort: Effort) -> int:
    return (32 if effort.quick else 384) * MIB


@dataclass(frozen=True, slots=True)
class Round:
    straight: Sent
    sluice: Sent
    tusd: Sent | None


def run(effort: Effort) -> Outcome:
    """Measure the SDK with the streams it chooses; the time ends with COMPLETED.

    By then every part is stored and assembled. Where tusd is available it carries the file too, for
    comparison; it is not judged.
    """
    with ExitStack() as stack:
        enter = stack.enter_context
        sluice = enter(deployment(5, SLUICE_EVENTS="off"))
        folder = enter(folder_of([object_bytes(effort)]))
        neighbour, absent = _start_tusd(stack, sluice, effort)
        measured = rounds("P5", effort, lambda _: _round(sluice, folder, neighbour))
    beside = [r.tusd for r in measured if r.tusd is not None]
    rates = {
        S3TRANSFER: [r.straight.rate for r in measured],
        common.layer(5): [r.sluice.rate for r in measured],
    }
    return Outcome(
        results=[Result(P5_S3, spread_of(measured, lambda r: r.sluice.rate / r.straight.rate))],
        figures={
            "rounds": len(measured),
            "object_bytes": object_bytes(effort),
            "part_bytes": PART_BYTES,
            "requests_at_once": REQUESTS,
            "sluice": figures_of([r.sluice for r in measured]),
            "s3transfer": figures_of([r.straight for r in measured]),
            "tusd": figures_of(beside) if beside else absent,
        },
        series=[common.layers("P5", rates)],
    )


def _start_tusd(stack: ExitStack, sluice: Deployment, effort: Effort) -> tuple[str | None, str]:
    """Return its address, or why there is none. Building it takes longer than a whole quick run."""
    try:
        program = find_tusd(build=not effort.quick)
    except TusdMissingError as missing:
        return None, f"absent: {missing}"
    server = tusd(
        program,
        sluice.settings,
        sluice.settings["SLUICE_BUCKET"],
        part_bytes=PART_BYTES,
        concurrency=REQUESTS,
    )
    return stack.enter_context(server), ""


def _round(sluice: Deployment, folder: Path, neighbour: str | None) -> Round:
    return Round(
        straight=straight(sluice, folder),
        sluice=through_sluice(sluice, folder, in_flight=1),
        tusd=None if neighbour is None else _through_tusd(neighbour, folder),
    )


def _through_tusd(address: str, folder: Path) -> Sent:
    return Sent(load("bench.peers.tusd", "--connect", address, "--files", str(folder)), {})
