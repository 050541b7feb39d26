"""Fault 7: S3 executes a request, and its response is lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support.http_faults import HttpFaults
from support.separate_services import ALL_WORK, MIB, PART_BYTES, s3_by, s3_line, separate_services

IN_PARTS = random.Random(7).randbytes(2 * PART_BYTES + MIB)
IN_ONE = random.Random(8).randbytes(MIB)
FINISHED_SECONDS = 60.0


@pytest.mark.row(7)
@pytest.mark.parametrize(
    ("request_", "content"),
    [
        pytest.param(
            b"?uploads ", IN_PARTS, id="CreateMultipartUpload", marks=pytest.mark.slow_fault
        ),
        pytest.param(b"?uploadId=", IN_PARTS, id="CompleteMultipartUpload"),
        pytest.param(b"PUT /", IN_ONE, id="PutObject", marks=pytest.mark.slow_fault),
    ],
)
async def test_lost_s3_response_leaves_one_object(
    tmp_path: Path, request_: bytes, content: bytes
) -> None:
    """Row 7: no second object and no abandoned multipart upload."""
    http = HttpFaults()
    async with (
        s3_line(http) as line,
        separate_services(tmp_path) as stage,
        stage.repository(ALL_WORK, s3_by(line)) as workers,
    ):
        # Only now, because the start of the repository probes the store.
        line.lose_answer(request_)
        upload_id = await stage.send("file", content)
        await stage.completed(upload_id, len(content), FINISHED_SECONDS)
        assert line.answers_to_lose == 0, workers.log_tail()
        await stage.judge()
        assert stage.services.count_objects() == 1
