"""What P5, P6, SMALL and PHOTOS have in common: the same files through Sluice and straight to S3.

Both sides read the files of one folder, in memory (tmpfs) where the machine has such a place, so
that no disk of the client is measured. Sluice is spoken to by its own SDK; s3transfer sends as many
requests at once as Sluice's part workers do. What was stored is deleted after each measurement,
outside of its time.
"""

from __future__ import annotations

import os
import random
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.backends import empty_bucket, s3_client
from bench.deployment import Deployment
from bench.measuring import text_of, usage_figures
from bench.processes import loading
from bench.units import GIB, MB, MIB
from bench.usage import Usage
from sluice_common.settings.groups import Workers

REQUESTS: Final = Workers().parts
"""Requests that a repository has at the object store at once; s3transfer gets as many."""
PART_BYTES: Final = 8 * MIB
"""What Sluice plans for these sizes, and what s3transfer is told."""
_MEMORY: Final = Path("/dev/shm")
_PIECE_BYTES: Final = 16 * MIB


@dataclass(frozen=True, slots=True)
class Sent:
    """One side's measurement."""

    figures: Mapping[str, Any]
    usage: Mapping[str, Usage]

    @property
    def seconds(self) -> float:
        return float(self.figures["seconds"])

    @property
    def rate(self) -> float:
        """MB/s until the last object was there."""
        return float(self.figures["bytes"] / self.seconds / MB)

    @property
    def errors(self) -> int:
        return sum(self.figures.get("errors", {}).values())

    @property
    def cpu_seconds(self) -> float:
        """Of the sender and of every process that it kept busy."""
        return float(self.figures["cpu_seconds"]) + sum(u.cpu_seconds for u in self.usage.values())


@contextmanager
def folder_of(sizes: Sequence[int], seed: int = 1) -> Iterator[Path]:
    """A folder with a file of random bytes for each size; no two files are alike."""
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="sluice-bench-files-", dir=memory) as folder:
        random_bytes = random.Random(seed)
        for number, size in enumerate(sizes):
            with (Path(folder) / f"{number:05}.bin").open("wb") as file:
                # In pieces: Python makes no 256 MiB of random bytes at once.
                for at in range(0, size, _PIECE_BYTES):
                    file.write(random_bytes.randbytes(min(_PIECE_BYTES, size - at)))
        yield Path(folder)


def through_sluice(
    sluice: Deployment,
    folder: Path,
    *,
    in_flight: int,
    drive: str | None = None,
    errors_count: bool = False,
) -> Sent:
    """Upload every file with the SDK until all are COMPLETED, then empty the bucket.

    Each measurement has paths of its own, as s3transfer has keys of its own: the second one would
    otherwise replace the nodes of the first and delete their objects while the clock runs. The
    nodes stay behind for as long as the deployment lives; nobody reads them.

    A file that fails ends the run, unless errors are what is counted.
    """
    repository = () if sluice.repository is None else ("--repository", sluice.repository)
    with loading(
        "bench.load.files",
        *("--target", sluice.intake, *repository),
        *("--drive", drive or sluice.drive, "--prefix", f"bench-{uuid.uuid4().hex[:8]}"),
        *("--files", str(folder), "--in-flight", str(in_flight)),
        watching=sluice.watched,
    ) as (figures, usage):
        sent = Sent(figures, usage)
    if sent.errors and not errors_count:
        raise RuntimeError(f"uploads failed: {figures['errors']}")
    with closing(s3_client(sluice.settings)) as client:
        empty_bucket(client, sluice.settings["SLUICE_BUCKET"])
    return sent


def straight(sluice: Deployment, folder: Path) -> Sent:
    """The same files with s3transfer into the same bucket; it deletes them itself."""
    s3 = sluice.backends.get("s3")
    with loading(
        "bench.peers.s3transfer",
        *("--bucket", sluice.settings["SLUICE_BUCKET"], "--prefix", "s3transfer"),
        *("--files", str(folder)),
        *("--concurrency", str(REQUESTS), "--part-bytes", str(PART_BYTES)),
        watching={} if s3 is None else {"s3": s3},
        settings=sluice.settings,
    ) as (figures, usage):
        return Sent(figures, usage)


def figures_of(runs: Sequence[Sent]) -> dict[str, object]:
    """What stands behind one side: time, rate, CPU of all together, of the sender, by process."""
    return {
        "seconds": text_of(runs, lambda r: r.seconds, 2),
        "mb_per_second": text_of(runs, lambda r: r.rate),
        "cpu_seconds_per_gib": text_of(runs, lambda r: r.cpu_seconds / _gib(r), 2),
        "generator_cpu_share": text_of(runs, lambda r: r.figures["cpu_seconds"] / r.seconds, 2),
        "processes": usage_figures(runs),
    }


def _gib(run: Sent) -> float:
    return float(run.figures["bytes"] / GIB)
