"""Errors of failed uploads on the wire, from a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1 import upload_pb2_grpc
from support.server import StandaloneServer

WAIT = Duration(seconds=60)


@pytest.fixture(name="intake")
async def an_intake(server: StandaloneServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield upload_pb2_grpc.IntakeServiceStub(channel)


async def refused(call: Awaitable[object]) -> tuple[str, str, int]:
    """Return the status, the reason, and the upload's state in the details (0 without one)."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(cast("grpc.Call", caught.value))
    assert status is not None
    info, upload = error_details_pb2.ErrorInfo(), pb.UploadStatus()
    assert [detail for detail in status.details if detail.Unpack(info)]
    for detail in status.details:
        detail.Unpack(upload)
    return caught.value.code().name, info.reason, upload.state


async def sent(intake: Any, path: str, data: bytes, **fields: Any) -> str:
    request = pb.InitiateUploadRequest(drive="failing", path=path, **fields)
    upload = await intake.InitiateUpload(request)
    if "inline_data" not in fields:
        await intake.UploadChunk(pb.UploadChunkRequest(upload_id=upload.upload_id, data=data))
    return str(upload.upload_id)


def complete(intake: Any, upload_id: str, **fields: Any) -> Awaitable[pb.CompleteUploadResponse]:
    request = pb.CompleteUploadRequest(upload_id=upload_id, total_chunks=1, **fields)
    return cast("Awaitable[pb.CompleteUploadResponse]", intake.CompleteUpload(request))


FAILED = pb.UPLOAD_STATE_FAILED


@pytest.mark.parametrize("fields", [{}, {"inline_data": b"x"}], ids=["chunk", "inline"])
async def test_wrong_checksum_claim_is_data_loss_on_every_call(
    intake: Any, fields: dict[str, Any]
) -> None:
    upload_id = await sent(intake, f"claim-{len(fields)}", b"x", sha256=bytes(32), **fields)
    for wait in (WAIT, None, WAIT):
        ended = await refused(complete(intake, upload_id, wait=wait))
        assert ended == ("DATA_LOSS", "CHECKSUM_MISMATCH", FAILED)


async def test_if_absent_is_checked_at_initiate_and_complete(intake: Any) -> None:
    first, second = [await sent(intake, "place", b"x", if_absent=True) for _ in range(2)]
    done = await complete(intake, first, wait=WAIT)
    assert done.status.state == pb.UPLOAD_STATE_COMPLETED
    for wait in (WAIT, None):
        ended = await refused(complete(intake, second, wait=wait))
        assert ended == ("ALREADY_EXISTS", "PATH_EXISTS", FAILED)
    late = sent(intake, "place", b"x", if_absent=True)
    assert await refused(late) == ("ALREADY_EXISTS", "PATH_EXISTS", 0)
    assert (await complete(intake, first, wait=WAIT)).status == done.status
