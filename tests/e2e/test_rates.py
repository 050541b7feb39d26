"""Rate limits of a standalone server: one limit for all of its services."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from sluice.repository.v1 import repository_pb2
from sluice.repository.v1.repository_pb2_grpc import RepositoryServiceStub
from sluice.upload.v1 import upload_pb2
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub
from support.server import standalone

LIMITS = {
    # The smallest rates, of which the burst holds 120 calls and two uploads.
    "SLUICE_RATES__SUBJECT_CALLS_PER_SECOND": "1",
    "SLUICE_RATES__TENANT_UPLOADS_PER_MINUTE": "1",
    "SLUICE_RATES__BURST_SECONDS": "120",
}


def test_intake_and_repository_count_against_one_limit(tmp_path: Path) -> None:
    """Two uploads a burst; the limits of calls hold for drives and nodes, too."""
    with (
        standalone(tmp_path / "data", LIMITS) as server,
        grpc.insecure_channel(server.address) as intake,
        grpc.insecure_channel(server.repository_address) as repository,
    ):
        uploads, drives = IntakeServiceStub(intake), RepositoryServiceStub(repository)
        limits = uploads.GetLimits(upload_pb2.GetLimitsRequest()).rate_limits
        assert (limits.uploads_per_minute, limits.calls_per_second) == (1, 1)
        for path in ("a", "b"):
            uploads.InitiateUpload(upload_pb2.InitiateUploadRequest(drive="d", path=path))
        with pytest.raises(grpc.RpcError) as refused:
            uploads.InitiateUpload(upload_pb2.InitiateUploadRequest(drive="d", path="c"))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        list_drives = repository_pb2.ListDrivesRequest()
        answers = [_answer(lambda: drives.ListDrives(list_drives)) for _ in range(200)]
        assert 100 <= answers.count("") < 200, "the burst, and a call for each second of the test"
        assert {each.split(":")[0] for each in answers} == {"", "RESOURCE_EXHAUSTED"}
        # The repository has used up what the intake shares.
        assert "calls per second" in "".join(
            _answer(lambda: uploads.GetLimits(upload_pb2.GetLimitsRequest())) for _ in range(5)
        )


def _answer(call: Callable[[], object]) -> str:
    """Return the text of the refusal, or an empty string."""
    try:
        call()
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    return ""
