"""Gate THUMBNAILS: photos of 12 megapixels per second and core, against a bare loop around Pillow
in one process per core (bench/peers/pillow_loop.py), in turns.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.gates import THUMBNAILS_RATIO, Result
from bench.load.photos import photo
from bench.measurement import rounds, spread_of, text_of
from bench.scenario import Effort, Outcome
from bench.units import MB, MIB
from sluice_processor.images.children.pool import ImageWorkers
from sluice_processor.images.model import ImageOptions
from sluice_processor.nodes.spool import SpoolOptions, spooled

PHOTOS: Final = 4
_IN_FLIGHT_PER_CHILD: Final = 2
"""One is decoded while the next one is queued."""
_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Round:
    """Photos per second and core."""

    loop: float
    sluice: float


def run(effort: Effort) -> Outcome:
    """Measure both: each hashes the file, reads EXIF and writes the same two thumbnails.

    Ours uses sandboxed children, at the cost of a copy to a descriptor, a request and a response.
    """
    cores = os.cpu_count() or 1
    with photos(effort) as paths:
        measured = rounds("THUMBNAILS", effort, lambda own: _round(own, paths, cores))
        megabytes = [path.stat().st_size / MB for path in paths]
    return Outcome(
        results=[Result(THUMBNAILS_RATIO, spread_of(measured, lambda r: r.sluice / r.loop))],
        figures={
            "rounds": len(measured),
            "cores": cores,
            "photo_megabytes": [round(size, 2) for size in megabytes],
            "photos_per_second_and_core": text_of(measured, lambda r: r.sluice, 2),
            "bare_loop_photos_per_second_and_core": text_of(measured, lambda r: r.loop, 2),
        },
    )


@contextmanager
def photos(effort: Effort) -> Iterator[Sequence[Path]]:
    """Create JPEGs of 4,000 x 3,000 pixels in a temporary folder; smaller ones for a quick run."""
    width, height = (800, 600) if effort.quick else (4000, 3000)
    with tempfile.TemporaryDirectory(prefix="sluice-photos-") as folder:
        paths = []
        for number in range(PHOTOS):
            path = Path(folder) / f"{number}.jpg"
            path.write_bytes(photo(width, height, seed=number))
            paths.append(path)
        yield paths


def _round(effort: Effort, paths: Sequence[Path], cores: int) -> Round:
    seconds = effort.seconds if effort.quick else _SECONDS
    return Round(
        loop=bare_loop(paths, seconds, cores) / cores,
        sluice=asyncio.run(through_children(paths, seconds, cores)) / cores,
    )


def bare_loop(paths: Sequence[Path], seconds: float, processes: int) -> float:
    """Return the photos per second of so many concurrent loops."""
    command = [sys.executable, "-m", "bench.peers.pillow_loop", str(seconds), *map(str, paths)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    rate = 0.0
    try:
        for process in running:
            printed, _ = process.communicate(timeout=seconds + 60)
            if process.returncode != 0:
                raise RuntimeError(f"the bare loop ended with {process.returncode}")
            figures = json.loads(printed)
            rate += figures["photos"] / figures["seconds"]
    finally:
        for process in running:
            process.kill()
            process.wait()
    return rate


async def through_children(paths: Sequence[Path], seconds: float, children: int) -> float:
    """Return the photos per second of a pool of so many children, with photos queued for all."""
    done = 0
    began = 0.0

    async def one(workers: ImageWorkers, path: Path) -> None:
        async with spooled(_blocks(path), 0, SpoolOptions()) as whole:
            await workers.process(whole.fd)

    async def go_round(workers: ImageWorkers, offset: int) -> None:
        nonlocal done
        turn = offset
        while time.perf_counter() - began < seconds:
            await one(workers, paths[turn % len(paths)])
            turn += 1
            done += 1

    async with ImageWorkers(ImageOptions(workers=children)) as workers:
        await one(workers, paths[0])
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for offset in range(children * _IN_FLIGHT_PER_CHILD):
                group.create_task(go_round(workers, offset))
        return done / (time.perf_counter() - began)


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    """Yield blocks as an object store does."""
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, MIB):
            yield block
