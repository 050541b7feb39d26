"""Random histories of upload jobs: the invariants hold at any time, also after `kill -9`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from sluice_backends.sql.catalogue import open_catalogue
from sluice_core.ports.catalogue import DrivePolicy
from sluice_core.ports.gateway import GatewayCatalogue
from support.commits import BUCKET, DRIVE, TENANT
from support.mysql_server import shared_server
from support.photo_history import PhotoHistory, check_photos
from support.waiting import until

TESTS = Path(__file__).parents[2]
STEPS = 120
USUAL = {
    "UploadJobCreated",
    "UploadJobCompleted",
    "PhotoQueued",
    "PhotoUploadStarted",
    "PhotoUploadCompleted",
    "PhotoProcessingCompleted",
    "PhotoFailed",
    "PhotoCancelled",
    "PhotoTagsChanged",
    "PhotoDeleted",
}
"""Events that a history of this length has."""


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(3))
async def test_invariants_hold_in_a_random_history(catalogue: GatewayCatalogue, seed: int) -> None:
    history = PhotoHistory(catalogue, seed)
    for number in range(STEPS):
        await history.step()
        if number % 10 == 0:
            await check_photos(catalogue)
    assert await check_photos(catalogue) >= USUAL


async def test_invariants_hold_in_concurrent_histories(catalogue: GatewayCatalogue) -> None:
    """Of several processes that change the same jobs."""
    histories = [PhotoHistory(catalogue, seed) for seed in range(4)]
    for history in histories:
        await history.create()
    shared = [photo for history in histories for photo in history.photos]
    for history in histories:
        history.photos = shared
    for _ in range(STEPS // 4):
        await asyncio.gather(*(history.step() for history in histories))
    assert await check_photos(catalogue) >= USUAL


@pytest.mark.parametrize("steps", [3, 40])
async def test_a_killed_process_leaves_whole_changes(url: str, steps: int) -> None:
    async with open_catalogue(url) as catalogue:
        await catalogue.create_drive(TENANT, DRIVE, BUCKET, "", DrivePolicy())
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.photo_history",
        url,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert process.stdout is not None
    try:
        confirmed = [(await process.stdout.readline()).decode() for _ in range(steps)]
    finally:
        process.kill()
        await process.stdout.read()
        await process.wait()
    assert all(confirmed), "the process ended by itself"
    if url.startswith("mysql"):
        # The server finishes a commit in progress before it notices that its client is gone.
        await until(lambda: not shared_server().sessions(), what="the end of its sessions")
    async with open_catalogue(url) as catalogue:
        assert "PhotoQueued" in await check_photos(catalogue)
