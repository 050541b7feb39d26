"""Shared parts of P5, P6, SMALL and PHOTOS: the same files through Sluice and straight to S3."""

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
from bench.measurement import text_of, usage_figures
from bench.processes import loading
from bench.units import GIB, MB, MIB
from bench.usage import Usage
from sluice_common.settings.groups import Workers

REQUESTS: Final = Workers().parts
"""Concurrent requests of a repository to the object store; s3transfer has as many."""
PART_BYTES: Final = 8 * MIB
"""Part size of Sluice's plan for these files, and of s3transfer."""
_MEMORY: Final = Path("/dev/shm")
_PIECE_BYTES: Final = 16 * MIB


@dataclass(frozen=True, slots=True)
class Sent:
    """Measurement of one side."""

    figures: Mapping[str, Any]
    usage: Mapping[str, Usage]

    @property
    def seconds(self) -> float:
        return float(self.figures["seconds"])

    @property
    def rate(self) -> float:
        """MB/s until the last object was stored."""
        return float(self.figures["bytes"] / self.seconds / MB)

    @property
    def errors(self) -> int:
        return sum(self.figures.get("errors", {}).values())

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of the sender and of every server process."""
        return float(self.figures["cpu_seconds"]) + sum(u.cpu_seconds for u in self.usage.values())


@contextmanager
def folder_of(sizes: Sequence[int], seed: int = 1) -> Iterator[Path]:
    """Create a folder with a file of random bytes for each size; no two files are equal.

    It is in memory (tmpfs) where the machine has one, so that no client disk is measured.
    """
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="sluice-bench-files-", dir=memory) as folder:
        random_bytes = random.Random(seed)
        for number, size in enumerate(sizes):
            with (Path(folder) / f"{number:05}.bin").open("wb") as file:
                # In pieces: Python cannot make 256 MiB of random bytes at once.
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

    Each measurement has unique paths, as s3transfer has unique keys: otherwise the second one would
    replace the nodes of the first and delete their objects while the clock runs. The nodes remain
    until the deployment ends. The objects are deleted outside of the measured time.

    A file that fails ends the run, unless errors are counted.
    """
    repository = () if sluice.repository is None else ("--repository", sluice.repository)
    with loading(
        "bench.load.files",
        *("--target", sluice.intake, *repository),
        *("--drive", drive or sluice.drive, "--prefix", f"bench-{uuid.uuid4().hex[:8]}"),
        *("--files", str(folder), "--in-flight", str(in_flight)),
        *sluice.token_arguments,
        watching=sluice.watched,
    ) as (figures, usage):
        sent = Sent(figures, usage)
    if sent.errors and not errors_count:
        raise RuntimeError(f"uploads failed: {figures['errors']}")
    with closing(s3_client(sluice.settings)) as client:
        empty_bucket(client, sluice.settings["SLUICE_BUCKET"])
    return sent


def straight(sluice: Deployment, folder: Path) -> Sent:
    """Upload the same files with s3transfer into the same bucket; it deletes them."""
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
    """Return the figures of one side: time, rate, CPU in total, of the sender, by process."""
    return {
        "seconds": text_of(runs, lambda r: r.seconds, 2),
        "mb_per_second": text_of(runs, lambda r: r.rate),
        "cpu_seconds_per_gib": text_of(runs, lambda r: r.cpu_seconds / _gib(r), 2),
        "generator_cpu_share": text_of(runs, lambda r: r.figures["cpu_seconds"] / r.seconds, 2),
        "processes": usage_figures(runs),
    }


def _gib(run: Sent) -> float:
    return float(run.figures["bytes"] / GIB)
