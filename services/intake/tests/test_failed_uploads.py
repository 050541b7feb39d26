"""CompleteUpload of an upload that ended without a node: it returns the upload's error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from grpc_status import rpc_status

from sluice.upload.v1 import upload_pb2 as pb
from sluice_common.rpc.errors import from_status
from sluice_core.errors import SluiceError
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports import WorkKind
from sluice_core.uploads.checksums import crc32c
from sluice_intake.options import IntakeOptions
from support.intake import Intake, running_intake

WAIT = {"seconds": 30}
FAILURES = [
    ("PATH_EXISTS", "ALREADY_EXISTS"),
    ("CHECKSUM_MISMATCH", "DATA_LOSS"),
    ("OBJECT_DAMAGED", "DATA_LOSS"),
    ("INVALID_PART", "DATA_LOSS"),
    ("DRIVE_NOT_FOUND", "NOT_FOUND"),
    ("BUCKET_NOT_FOUND", "FAILED_PRECONDITION"),
    ("STORE_DENIED", "FAILED_PRECONDITION"),
    ("STORE_UNAVAILABLE", "FAILED_PRECONDITION"),
    ("OF_A_LATER_RELEASE", "FAILED_PRECONDITION"),
]
"""Reason → status. STORE_UNAVAILABLE is final here, so its status must not invite a retry."""


async def ended(call: Awaitable[Any]) -> tuple[SluiceError, pb.UploadStatus]:
    """Return the error of a call and the upload's status in its details."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(cast("grpc.Call", caught.value))
    assert status is not None
    found = pb.UploadStatus()
    assert [detail for detail in status.details if detail.Unpack(found)]
    return from_status(status), found


async def sent(intake: Intake, **fields: Any) -> str:
    upload = await intake.initiate(**fields)
    await intake.send(upload.upload_id, 0, b"x")
    return str(upload.upload_id)


async def fail(intake: Intake, upload_id: str, reason: str, detail: str = "It failed.") -> None:
    await intake.ledger.fail(upload_id, reason, detail)


@pytest.mark.parametrize(("reason", "code"), FAILURES)
async def test_completing_a_failed_upload_returns_its_error(reason: str, code: str) -> None:
    async with running_intake() as intake:
        upload_id = await sent(intake)
        await intake.complete(upload_id, total_chunks=1)
        await fail(intake, upload_id, reason)
        requests: list[dict[str, Any]] = [
            {"total_chunks": 1},
            {"total_chunks": 1, "wait": WAIT},
            {},
            {"total_chunks": 7},
            {"total_chunks": 1, "sha256": bytes(32)},
        ]
        for request in requests:
            error, status = await ended(intake.complete(upload_id, **request))
            assert (error.code, error.reason, error.message) == (code, reason, "It failed.")
            assert error.retry_after_seconds is None
            assert error.metadata == {"status": "FAILED", "upload_id": upload_id}
            assert status == await intake.status(upload_id)
            assert (status.state, status.failure_reason) == (pb.UPLOAD_STATE_FAILED, reason)


async def test_wait_for_completion_returns_the_failure() -> None:
    async with running_intake() as intake:
        upload_id = await sent(intake)
        waiting = asyncio.ensure_future(
            ended(intake.complete(upload_id, total_chunks=1, wait=WAIT))
        )
        # The completion has started once the part is queued.
        assert await intake.queue.take(frozenset(WorkKind), "tests", wait_seconds=30)
        await fail(intake, upload_id, "PATH_EXISTS")
        error, status = await waiting
        assert (error.code, error.reason) == ("ALREADY_EXISTS", "PATH_EXISTS")
        assert status.state == pb.UPLOAD_STATE_FAILED


async def test_failure_before_completion_is_returned() -> None:
    """It takes precedence over another error of the request: the total is unknown."""
    async with running_intake() as intake:
        upload_id = await sent(intake)
        await fail(intake, upload_id, "STORE_DENIED")
        error, _ = await ended(intake.complete(upload_id))
        assert error.reason == "STORE_DENIED"


async def test_repeated_inline_upload_returns_its_failure() -> None:
    async with running_intake() as intake:
        fields: dict[str, Any] = {"inline_data": b"x", "request_id": "r"}
        upload = await intake.initiate(**fields)
        assert upload.state == pb.UPLOAD_STATE_COMPLETING
        await fail(intake, upload.upload_id, "PATH_EXISTS")
        for call in (intake.initiate(**fields), intake.complete(upload.upload_id)):
            error, status = await ended(call)
            assert (error.code, error.reason) == ("ALREADY_EXISTS", "PATH_EXISTS")
            assert status.upload_id == upload.upload_id


async def test_immediately_completing_ledger_returns_failure() -> None:
    options = IntakeOptions(ledger=LedgerOptions(discard_on_accept=True))
    async with running_intake(options) as intake:
        upload_id = await sent(intake, crc32c=crc32c(b"other"))
        for _ in range(2):
            error, _ = await ended(intake.complete(upload_id, total_chunks=1))
            assert (error.code, error.reason) == ("DATA_LOSS", "CHECKSUM_MISMATCH")


async def test_completing_an_aborted_upload_is_upload_ended() -> None:
    async with running_intake() as intake:
        upload_id = await sent(intake)
        await intake.abort(upload_id)
        error, status = await ended(intake.complete(upload_id, total_chunks=1, wait=WAIT))
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "UPLOAD_ENDED")
        assert status.state == pb.UPLOAD_STATE_ABORTED


async def test_longest_failure_fits_the_trailers() -> None:
    """Path, detail and status share the trailers, which clients limit to 8 KiB."""
    async with running_intake() as intake:
        upload_id = await sent(intake, path="é" * 512, metadata={"k": "v" * 8000})
        await fail(intake, upload_id, "CHECKSUM_MISMATCH", "d" * 2000)
        error, status = await ended(intake.complete(upload_id, total_chunks=1))
        assert (error.reason, status.path) == ("CHECKSUM_MISMATCH", "é" * 512)
