"""Atomicity of commits of a process killed between any two instructions."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from sluice.events.v1 import nodes_pb2, uploads_pb2
from sluice_backends.sql.catalogue import open_catalogue
from sluice_core.ports.catalogue import Catalogue, DrivePolicy
from support.commits import BUCKET, DRIVE, TENANT
from support.committer import PATHS
from support.mysql_server import shared_server
from support.waiting import until

TESTS = Path(__file__).parents[2]
FAR = time.time() + 1e6


async def commit_until_killed(url: str, confirmed_at_least: int) -> list[str]:
    """Return the node ids that a process confirmed before `kill -9`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.committer",
        url,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert process.stdout is not None
    try:
        confirmed = [
            (await process.stdout.readline()).decode().strip() for _ in range(confirmed_at_least)
        ]
    finally:
        process.kill()
        rest = (await process.stdout.read()).decode()
        await process.wait()
    if url.startswith("mysql"):
        # The server finishes a commit in progress before it notices that its client is gone.
        await until(lambda: not shared_server().sessions(), what="the end of its sessions")
    confirmed += [line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    assert all(confirmed), "the committing process ended by itself"
    return confirmed


async def completed_and_deleted(catalogue: Catalogue) -> tuple[list[str], list[str]]:
    completed, deleted = [], []
    for row in await catalogue.outbox(100_000):
        if row.event.type.endswith("UploadCompleted"):
            completed.append(uploads_pb2.UploadCompleted.FromString(row.event.payload).node_id)
        else:
            deleted.append(nodes_pb2.NodeDeleted.FromString(row.event.payload).node_id)
    return completed, deleted


@pytest.mark.rule(19)
@pytest.mark.parametrize("confirmed_at_least", [1, 40])
async def test_confirmed_commits_survive_kill_9_completely(
    url: str, confirmed_at_least: int
) -> None:
    async with open_catalogue(url) as catalogue:
        await catalogue.create_drive(TENANT, DRIVE, BUCKET, "", DrivePolicy())
    confirmed = await commit_until_killed(url, confirmed_at_least)

    async with open_catalogue(url) as catalogue:
        completed, deleted = await completed_and_deleted(catalogue)
        # One commit may be unconfirmed: it is present completely or not at all.
        assert completed[: len(confirmed)] == confirmed
        assert len(completed) - len(confirmed) in (0, 1)
        assert deleted == completed[: len(deleted)]
        page = await catalogue.list_nodes(TENANT, DRIVE, "", 100, "")
        assert sorted(node.node_id for node in page.nodes) == sorted(completed[-PATHS:])
        doomed = await catalogue.deletions_due(FAR, 100_000)
        assert len(doomed) == len(deleted) == max(0, len(completed) - PATHS)
