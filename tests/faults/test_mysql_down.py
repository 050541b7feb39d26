"""Fault 9: a MySQL outage, or a repository that dies during its commit."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sluice.upload.v1 import upload_pb2 as pb
from support import mysql_server
from support.mysql_proxy import AtCommit, running_proxy
from support.separate_services import (
    ALL_WORK,
    MIB,
    PART_BYTES,
    SHORT_LEASES,
    Stage,
    separate_services,
)
from support.wire import cut

IN_PARTS = random.Random(9).randbytes(PART_BYTES + MIB)
IN_ONE = random.Random(10).randbytes(MIB)
DRAINED_SECONDS = 60.0
LONGEST_ACK_SECONDS = 5.0
BETWEEN_UPLOADS_SECONDS = 0.5


FINISHED_SECONDS = 60.0
THE_COMMIT = b"INSERT INTO nodes"


@asynccontextmanager
async def mysql_outage() -> AsyncIterator[None]:
    """Kill the server while the block runs; restart it with its committed data."""
    server = mysql_server.shared_server()
    server.kill()
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


async def acknowledged(stage: Stage, upload_id: str, content: bytes) -> None:
    begun = time.monotonic()
    chunks = cut(content, itertools.repeat(MIB))
    assert len(await stage.wire.send_stream(upload_id, chunks)) == len(chunks)
    assert time.monotonic() - begun < LONGEST_ACK_SECONDS


@pytest.mark.row(9)
@pytest.mark.parametrize(
    "outage_seconds",
    [
        pytest.param(4, id="for a moment"),
        pytest.param(60, id="for a minute", marks=pytest.mark.slow_fault),
    ],
)
async def test_uploads_continue_while_mysql_is_down(tmp_path: Path, outage_seconds: float) -> None:
    """Row 9: chunks are acknowledged, completions wait and finish within 60 s of the restart."""
    async with separate_services(tmp_path) as stage, stage.repository(ALL_WORK):
        # The drive is cached, and an upload in parts is under way.
        opened = {await stage.open("begun before"): IN_PARTS}
        async with mysql_outage():
            over = time.monotonic() + outage_seconds
            await acknowledged(stage, next(iter(opened)), IN_PARTS)
            while time.monotonic() < over:
                upload_id = await stage.open(f"file-{len(opened)}")
                opened[upload_id] = IN_ONE
                await acknowledged(stage, upload_id, IN_ONE)
                await asyncio.sleep(BETWEEN_UPLOADS_SECONDS)
            for upload_id, content in opened.items():
                status = await stage.wire.complete(upload_id, len(content) // MIB, 0)
                assert status.state == pb.UPLOAD_STATE_COMPLETING, status
        back = time.monotonic()
        for upload_id, content in opened.items():
            left = back + DRAINED_SECONDS - time.monotonic()
            await stage.completed(upload_id, len(content), left)
        await stage.judge()


@pytest.mark.row(9)
@pytest.mark.parametrize(
    "comes",
    [
        pytest.param("never", marks=pytest.mark.slow_fault),
        pytest.param("before the next holder begins", marks=pytest.mark.slow_fault),
        "after the next holder has finished",
    ],
)
async def test_commit_in_flight_of_a_killed_repository_is_safe(tmp_path: Path, comes: str) -> None:
    """Row 9: the packet lacks its last byte when its sender dies; the byte arrives late or never.
    The next holder finishes within 60 s; one row; one event of each kind."""
    server = mysql_server.shared_server()
    async with (
        running_proxy(server.port) as proxy,
        separate_services(tmp_path, SHORT_LEASES) as stage,
    ):
        database = stage.services.mysql_url.rpartition("/")[2]
        by_proxy = {"SLUICE_MYSQL__URL": server.url(database, port=proxy.port)}
        proxy.only_with, proxy.first_bytes, proxy.at_commit = THE_COMMIT, -1, AtCommit.HOLD
        upload_id = await stage.send("file", IN_ONE)
        async with stage.repository(ALL_WORK, by_proxy) as dying:
            await stage.wire.complete(upload_id, len(IN_ONE) // MIB, 0)
            async with asyncio.timeout(FINISHED_SECONDS):
                await proxy.commits_seen.acquire()
            await asyncio.to_thread(dying.kill)
        nodes = f"SELECT COUNT(*) FROM {database}.nodes WHERE upload_id = '{upload_id}'"
        assert server.run(nodes) == [(0,)]
        if comes == "before the next holder begins":
            await proxy.deliver()
            assert server.run(nodes) == [(1,)]
        elif comes == "never":
            proxy.cut()
        async with stage.repository(ALL_WORK):
            await stage.completed(upload_id, len(IN_ONE), FINISHED_SECONDS)
            if comes == "after the next holder has finished":
                await proxy.deliver()
            await stage.judge()
        assert server.run(nodes) == [(1,)]
        assert server.run(f"SELECT COUNT(*) FROM {database}.object_intents") == [(0,)]
