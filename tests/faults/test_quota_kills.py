"""Quotas while intakes and repositories are killed: what fits is stored, no room is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import pytest

from sluice.repository.v1 import repository_pb2 as rp
from sluice.upload.v1 import upload_pb2 as pb
from sluice_common.rpc.errors import from_rpc_error
from sluice_core.uploads.checksums import crc32c
from support.deployments import Services
from support.fleet import DRIVE, Fleet, fleet, until

SIZE = 70_000
FIT = 50
UPLOADS = 200
LIMIT = FIT * SIZE + SIZE - 1
SECONDS = 150.0
RETRIED = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL"}


async def put(here: Fleet, number: int) -> bool:
    """Upload one object as the SDK does, with retries; return False when the quota refuses it."""
    data = number.to_bytes(2, "big") * (SIZE // 2)
    while True:
        try:
            opened = await here.wire.intake.InitiateUpload(
                pb.InitiateUploadRequest(
                    drive=DRIVE,
                    path=f"n{number}",
                    expected_size=SIZE,
                    request_id=f"r{number}",
                ),
                timeout=20,
            )
            await here.wire.intake.UploadChunk(
                pb.UploadChunkRequest(
                    upload_id=opened.upload_id, number=0, data=data, crc32c=crc32c(data)
                ),
                timeout=20,
            )
            await here.wire.intake.CompleteUpload(
                pb.CompleteUploadRequest(upload_id=opened.upload_id, total_chunks=1), timeout=20
            )
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error)
            if refusal.reason == "QUOTA_EXCEEDED":
                assert refusal.retry_after_seconds is None
                return False
            assert refusal.retryable or refusal.code in RETRIED, refusal
            await asyncio.sleep(0.2)
        else:
            return True


async def usage_of(here: Fleet) -> rp.Usage:
    answer = await here.wire.repository.GetUsage(rp.GetUsageRequest(drive=DRIVE), timeout=20)
    return answer.usage


async def sizes(here: Fleet) -> list[int]:
    answer = await here.wire.repository.ListNodes(
        rp.ListNodesRequest(drive=DRIVE, page_size=1_000), timeout=20
    )
    return [node.size for node in answer.nodes]


def _ended(uploads: Sequence[asyncio.Future[bool]]) -> int:
    return sum(upload.done() for upload in uploads)


def _has_ended(uploads: Sequence[asyncio.Future[bool]], enough: int) -> bool:
    return _ended(uploads) >= enough


@pytest.mark.parametrize("kills", [False, True])
async def test_200_uploads_for_50_store_what_fits(
    services: Services, tmp_path: Path, kills: bool
) -> None:
    async with fleet(services, tmp_path, intakes=2, repositories=2) as here:
        quota = rp.Quota(max_bytes=LIMIT)
        await here.wire.repository.SetQuota(rp.SetQuotaRequest(drive=DRIVE, quota=quota))
        uploads = [asyncio.ensure_future(put(here, number)) for number in range(UPLOADS)]
        if kills:
            for process in (here.intakes[0], here.repositories[0], here.repositories[1]):
                enough = min(_ended(uploads) + 5, UPLOADS)
                await until(partial(_has_ended, uploads, enough), SECONDS, "more uploads end")
                await asyncio.to_thread(process.kill)
                await asyncio.to_thread(process.start)
        async with asyncio.timeout(SECONDS):
            stored = sum(await asyncio.gather(*uploads))

        async def settled() -> bool:
            return len(await sizes(here)) == stored and (await usage_of(here)).reserved_bytes == 0

        await until(settled, SECONDS, "every reservation has become usage or was given back")
        # Also with kills: a client repeats with the request id that its reservation has.
        assert stored == FIT
        usage = await usage_of(here)
        assert (usage.bytes, usage.nodes) == (stored * SIZE, stored)
        assert usage.open_uploads == 0
