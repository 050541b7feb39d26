"""Pictures for pools of decoder children, and what a test does to the children."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from sluice_processor.images.children.pool import ImageWorkers
from sluice_processor.images.model import ImageOptions, ImageRefused, ProcessedImage, RefusalReason
from support.files import held
from support.pictures import quadrants, saved

OPTIONS = ImageOptions(workers=1, thumbnail_sizes=(64, 128), wall_seconds=60)
SMALL = saved(quadrants(), "PNG")


async def process(pool: ImageWorkers, data: bytes) -> ProcessedImage:
    with held(data) as fd:
        return await pool.process(fd)


async def reason(pool: ImageWorkers, data: bytes) -> RefusalReason:
    with pytest.raises(ImageRefused) as refused:
        await process(pool, data)
    return refused.value.reason


def only(pool: ImageWorkers) -> int:
    (pid,) = pool.pids
    return pid


def resume(*pids: int) -> None:
    """Continue the processes that still exist."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
