"""Faults 5 and 6: a part worker crashes at a critical point, or loses its lease while stopped."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from sluice_backends.redis import keys
from sluice_common.process.crash_points import (
    ENABLE_VARIABLE,
    EXIT_STATUS,
    POINT_VARIABLE,
    CrashPoint,
)
from support.http_faults import HttpFaults
from support.network_faults import Faults
from support.processes import ServiceProcess
from support.separate_services import (
    ALL_WORK,
    PART_BYTES,
    SHORT_LEASES,
    Stage,
    s3_by,
    s3_line,
    separate_services,
)
from support.waiting import metric, until

PARTS = 3
CONTENT = random.Random(56).randbytes(PARTS * PART_BYTES)
TAKEN_OVER_SECONDS = 30.0
ONE_AT_A_TIME = {"SLUICE_WORKERS__PARTS": "1"}
"""With one part per process, the part that a crash interrupts is known."""


def sent_to_s3(http: HttpFaults) -> list[int]:
    """Return the sorted numbers of the parts sent to S3, without the probe of the start."""
    requests = [request for request in http.requests if "/sluice-probe" not in request]
    found = [re.search(r"^PUT .*[?&]partNumber=(\d+)", request) for request in requests]
    return sorted(int(match[1]) for match in found if match is not None)


async def recorded(stage: Stage, upload_id: str) -> dict[int, list[str]]:
    """Return the ETags recorded in the ledger, by part."""
    with stage.services.redis.client() as client:
        rows = client.zrange(keys.etags(upload_id), 0, -1)
    found: dict[int, list[str]] = {}
    for row in rows:
        part, etag, *_ = row.decode().split(":")
        found.setdefault(int(part), []).append(etag)
    return found


async def assert_each_part_is_recorded_once(stage: Stage, upload_id: str) -> None:
    found = await recorded(stage, upload_id)
    assert {part: len(tags) for part, tags in found.items()} == dict.fromkeys(
        range(1, PARTS + 1), 1
    )


async def assert_nothing_is_queued(process: ServiceProcess) -> None:
    """Check that dropped bytes were released once: a second release would make it negative."""

    async def empty() -> bool:
        return await metric(process.metrics_address, "sluice_queued_bytes") == 0

    await until(empty, 20, "no byte is queued any more")


@pytest.mark.row(5)
@pytest.mark.parametrize(
    ("point", "times", "leases"),
    [
        pytest.param(
            CrashPoint.AFTER_CLAIM_PART,
            1,
            {},
            id="claimed, with the leases of operators",
            marks=pytest.mark.slow_fault,
        ),
        pytest.param(
            CrashPoint.AFTER_SET_MULTIPART,
            1,
            SHORT_LEASES,
            id="opened",
            marks=pytest.mark.slow_fault,
        ),
        pytest.param(CrashPoint.AFTER_UPLOAD_PART, 2, SHORT_LEASES, id="stored, not recorded"),
        pytest.param(
            CrashPoint.AFTER_RECORD_PART,
            1,
            SHORT_LEASES,
            id="recorded",
            marks=pytest.mark.slow_fault,
        ),
    ],
)
async def test_part_of_a_dead_worker_is_taken_over(
    tmp_path: Path, point: CrashPoint, times: int, leases: Mapping[str, str]
) -> None:
    """Row 5: take-over within 30 s; one ETag per part; the chunks of a part are dropped once."""
    http = HttpFaults()
    async with (
        s3_line(http) as line,
        separate_services(tmp_path, {**leases, **s3_by(line)}) as stage,
    ):
        armed = {ENABLE_VARIABLE: "1", POINT_VARIABLE: point.value, **ONE_AT_A_TIME}
        async with stage.repository("parts", armed) as dying:
            upload_id = await stage.send("file", CONTENT)
            status = await asyncio.to_thread(dying.wait, 30)
            assert status == EXIT_STATUS, dying.log_tail()
        async with stage.repository(ALL_WORK) as heir:
            # Measured from the start of the next worker, without the start of the interpreter.
            begun = time.monotonic()
            await stage.completed(upload_id, len(CONTENT), TAKEN_OVER_SECONDS)
            assert time.monotonic() - begun < TAKEN_OVER_SECONDS
            # A recorded part is not uploaded again.
            assert len(sent_to_s3(http)) == PARTS - 1 + times
            assert set(sent_to_s3(http)) == set(range(1, PARTS + 1))
            await assert_each_part_is_recorded_once(stage, upload_id)
            await stage.judge()
            await assert_nothing_is_queued(heir)


@pytest.mark.row(6)
async def test_worker_with_expired_lease_is_fenced(tmp_path: Path) -> None:
    """Row 6: it resumes with the part half-way to S3; its later writes are fenced."""
    http = HttpFaults()
    async with (
        s3_line(http) as line,
        separate_services(tmp_path, SHORT_LEASES) as stage,
        stage.repository("parts", {**s3_by(line), **ONE_AT_A_TIME}) as sleeper,
    ):
        line.up = Faults(bytes_per_second=PART_BYTES / 8)
        upload_id = await stage.send("file", CONTENT)

        async def begun() -> bool:
            return bool(sent_to_s3(http))

        async def all_recorded() -> bool:
            return len(await recorded(stage, upload_id)) == PARTS

        async def parts(outcome: str) -> float:
            return await metric(sleeper.metrics_address, "sluice_parts_total", outcome=outcome)

        async def noticed() -> bool:
            return await parts("lost") == 1

        await until(begun, 20, "a part on its way to S3")
        with asleep(sleeper):
            async with stage.repository(ALL_WORK) as heir:
                await until(all_recorded, TAKEN_OVER_SECONDS, "another worker takes over")
                before = await recorded(stage, upload_id)
                line.heal()
                os.kill(sleeper.pid, signal.SIGCONT)
                await until(noticed, 20, "the stopped worker notices that its claim is lost")
                assert await parts("stored") == 0, sleeper.log_tail()
                assert await recorded(stage, upload_id) == before
                await stage.completed(upload_id, len(CONTENT), TAKEN_OVER_SECONDS)
                await assert_each_part_is_recorded_once(stage, upload_id)
                await stage.judge()
                await assert_nothing_is_queued(heir)


@contextmanager
def asleep(process: ServiceProcess) -> Iterator[None]:
    """Stop the process with SIGSTOP; resume it at the exit, so that it can be terminated."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)
