"""Retries, and the time that counts against a work item."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import Image

from sluice_core.concurrency.attempts import FinalFailure
from sluice_processor.images.children.pool import ImageWorkers
from sluice_processor.nodes.handler import NodeProcessor, Work
from sluice_processor.options import ProcessorOptions
from sluice_processor.sources.attempts import process_with_retries
from support.commits import TENANT
from support.files import held
from support.pictures import quadrants, saved
from support.processor import IMAGES, Darkroom, darkroom
from support.waiting import until

PHOTO = saved(quadrants(), "JPEG")
OPTIONS = ProcessorOptions(images=replace(IMAGES, workers=1), attempts=2, handling_seconds=5.0)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Darkroom]:
    async with darkroom(tmp_path, OPTIONS) as opened:
        yield opened


@contextmanager
def stopped(pool: ImageWorkers) -> Iterator[None]:
    """Stop the only child of a pool."""
    (pid,) = pool.pids
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.row(20)
async def test_wait_for_a_decoder_costs_no_allowance(room: Darkroom) -> None:
    """The pictures ahead of it take longer than its own allowance."""
    commit = await room.upload(PHOTO)
    async with ImageWorkers(OPTIONS.images) as pool:
        processor = NodeProcessor(replace(room.deps, images=pool))
        with held(PHOTO) as fd, stopped(pool):
            slow = asyncio.create_task(pool.process(fd))
            work = Work(TENANT, commit.node_id)
            waiting = asyncio.create_task(process_with_retries(processor, work, OPTIONS))
            done, _ = await asyncio.wait([waiting], timeout=1.2 * OPTIONS.handling_seconds)
            assert not done
        assert await waiting is None
        assert (await slow).thumbnails
    found = await room.result(commit)
    assert found is not None
    assert found.reason == ""


async def test_slow_progress_of_decoder_costs_no_allowance(room: Darkroom) -> None:
    """A child with little processor time does not spend the allowance of its node."""
    photo = saved(Image.new("RGB", (8000, 5000)), "PNG", compress_level=1)
    commit = await room.upload(photo)
    options = replace(OPTIONS, handling_seconds=2.0)
    async with ImageWorkers(OPTIONS.images) as pool:
        processor = NodeProcessor(replace(room.deps, images=pool))
        (pid,) = pool.pids
        child = psutil.Process(pid)
        used = [child.cpu_times()]
        working = asyncio.create_task(
            process_with_retries(processor, Work(TENANT, commit.node_id), options)
        )
        began = time.monotonic()
        while not working.done() and time.monotonic() - began < 2 * options.handling_seconds:
            await until(lambda: working.done() or child.cpu_times() != used[-1])
            used.append(child.cpu_times())
            with stopped(pool):
                await asyncio.wait([working], timeout=0.2)
        assert await working is None
        assert time.monotonic() - began > options.handling_seconds


@pytest.mark.row(20)
async def test_picture_beyond_its_allowance_fails(room: Darkroom) -> None:
    commit = await room.upload(PHOTO)
    options = replace(OPTIONS, handling_seconds=3.0)
    async with ImageWorkers(OPTIONS.images) as pool:
        processor = NodeProcessor(replace(room.deps, images=pool))
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        failure = await process_with_retries(processor, Work(TENANT, commit.node_id), options)
        assert failure == FinalFailure(
            "HANDLER_TIMEOUT", "The node was not processed in time; replay it later.", 1
        )
        # The child was replaced, and the next picture is processed.
        patient = replace(OPTIONS, handling_seconds=60.0)
        assert await process_with_retries(processor, Work(TENANT, commit.node_id), patient) is None
