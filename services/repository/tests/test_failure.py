"""Failed uploads: the texts for their owner and for operators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sluice_core.uploads.model import UploadStatus
from sluice_repository.work.failure import fail_upload
from support.roles import World, small_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with small_world(tmp_path) as world:
        yield world


@pytest.mark.parametrize(
    ("reason", "level"),
    [
        ("BUCKET_NOT_FOUND", "error"),
        ("STORE_UNAVAILABLE", "error"),
        ("CHECKSUM_MISMATCH", "warning"),
        ("PATH_EXISTS", "warning"),
    ],
)
async def test_failures_of_the_deployment_are_logged_as_errors(
    world: World, reason: str, level: str
) -> None:
    """Owner and operator get their own text, and the relay is woken for the event."""
    upload = await world.upload([b"x"])
    claim = await world.deps.ledger.claim_part(upload.id, 1, "worker", 15.0)
    assert claim is not None
    with capture_logs() as logs:
        assert await fail_upload(world.deps, claim, reason, "Public.", "Internal.") == "failed"
    snapshot = await world.snapshot(upload)
    assert (snapshot.status, snapshot.failure_reason) == (UploadStatus.FAILED, reason)
    assert snapshot.failure_detail == "Public."
    (line,) = [log for log in logs if log["event"] == "upload.failed"]
    assert (line["log_level"], line["detail"]) == (level, "Internal.")
    assert world.deps.relay_wakeup.is_set()
