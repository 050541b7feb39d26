"""A full byte budget: many uploads finish without a deadlock (rules 9 and 10)."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from typing import Any

import grpc.aio
import pytest

from sluice.upload.v1 import upload_pb2
from sluice_client import Client
from support.deployments import Deployment
from support.wire import CHANNEL_OPTIONS, Chunk, WireClient, cut

MIB = 1024 * 1024
BUDGET = {
    "SLUICE_BUDGET_BYTES": str(64 * MIB),
    "SLUICE_TENANT_BUDGET_BYTES": str(64 * MIB),
    "SLUICE_UPLOAD_BUDGET_BYTES": str(32 * MIB),
    # Abandoned uploads alone would hold the budget for an hour (rule 9, PRESSURE).
    "SLUICE_LIFETIMES__PRESSURE_IDLE_SECONDS": "15",
    "SLUICE_LIFETIMES__EXPIRY_GRACE_SECONDS": "1",
    "SLUICE_SWEEPER__INTERVAL_SECONDS": "1",
    # A stream whose needed chunk is queued behind is refused after this long.
    "SLUICE_THROTTLE__BUDGET_STALL_SECONDS": "1",
    "SLUICE_THROTTLE__LOOK_AHEAD_STALL_SECONDS": "1",
}
PATTERN = random.Random(0).randbytes(12 * MIB)
RETRYABLE = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED}


async def initiate_when_there_is_room(
    wire: WireClient, path: str, **fields: Any
) -> tuple[str, str]:
    while True:
        try:
            opened = await wire.initiate(path, **fields)
        except grpc.aio.AioRpcError as error:
            if error.code() not in RETRYABLE:
                raise
            await asyncio.sleep(0.2)
        else:
            return opened.upload_id, opened.node_id


async def send_until_in(wire: WireClient, upload_id: str, chunks: list[Chunk]) -> None:
    """Send as the contract requires: after a refusal, send missing chunks, lowest first."""
    left = chunks
    while left:
        try:
            await wire.send_stream(upload_id, left)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() not in RETRYABLE:
                raise
        await asyncio.sleep(0.1)
        status = await wire.status(upload_id)
        missing = {n for gap in status.missing for n in range(gap.first, gap.last + 1)}
        highest = status.received_chunks + len(missing)
        left = sorted(
            (c for c in chunks if c.number in missing or c.number >= highest),
            key=lambda chunk: chunk.number,
        )


async def upload(wire: WireClient, index: int, gate: asyncio.Semaphore) -> str | None:
    """Run one of the uploads; every fifth is abandoned half-way."""
    source = random.Random(index)
    data = PATTERN[: source.randrange(1, 12 * MIB)]
    declared = index % 2 == 0
    fields: dict[str, Any] = {"chunk_size": MIB} if declared else {}
    chunks = cut(data, itertools.repeat(MIB))
    if index % 3 == 0:
        chunks.reverse()
    elif index % 3 == 1:
        source.shuffle(chunks)
    async with gate:
        upload_id, node_id = await initiate_when_there_is_room(wire, f"{index}", **fields)
        if index % 5 == 4:
            # Abandoned uploads stop while they hold room.
            half = sorted(chunks[: len(chunks) // 2], key=lambda chunk: chunk.number)[:2]
            await send_until_in(wire, upload_id, half)
            return None
        await send_until_in(wire, upload_id, chunks)
        status = await wire.complete(upload_id, total_chunks=len(chunks), wait_seconds=120)
        assert status.state == upload_pb2.UPLOAD_STATE_COMPLETED, status
        assert (await wire.read_sha256(node_id))[0] == hashlib.sha256(data).hexdigest()
        return node_id


@pytest.mark.rule(9)
@pytest.mark.slow
@pytest.mark.parametrize("uploads", [100, pytest.param(200, marks=pytest.mark.slow_fault)])
async def test_uploads_through_a_64_mib_budget_all_finish(
    deployed: Deployment, uploads: int
) -> None:
    """Ten times as much as fits, or twenty times, of sixty clients at once."""
    with deployed.serving(BUDGET) as server:
        async with grpc.aio.insecure_channel(server.address, options=CHANNEL_OPTIONS) as channel:
            wire = WireClient(channel)
            gate = asyncio.Semaphore(60)
            async with asyncio.timeout(240):
                results = await asyncio.gather(*(upload(wire, n, gate) for n in range(uploads)))
        finished = sum(result is not None for result in results)
        assert finished == uploads - uploads // 5


@pytest.mark.rule(9)
@pytest.mark.slow
async def test_sdk_uploads_many_files_through_a_small_budget(
    deployed: Deployment,
) -> None:
    data = {f"sdk/{n}": random.Random(n).randbytes(6 * MIB + n) for n in range(30)}
    with deployed.serving(BUDGET) as server:
        async with Client(server.address) as client, asyncio.timeout(120):
            async with asyncio.TaskGroup() as group:
                for path, content in data.items():
                    group.create_task(client.upload(content, drive="budget", path=path))
            nodes = [node async for node in client.list_nodes("budget", "sdk/")]
        assert {node.path: node.size for node in nodes} == {p: len(d) for p, d in data.items()}
