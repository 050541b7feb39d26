"""Fault 8: a completer dies between the store, the catalogue and the ledger."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from sluice_backends.kafka.options import KafkaOptions
from sluice_common.process.crash_points import (
    ENABLE_VARIABLE,
    EXIT_STATUS,
    POINT_VARIABLE,
    CrashPoint,
)
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from support import kafka, mysql_server
from support.separate_services import MIB, PART_BYTES, SHORT_LEASES, Stage, separate_services
from support.wire import WireClient

CONTENT = random.Random(8).randbytes(PART_BYTES + MIB)
CHUNKS = len(CONTENT) // MIB
FINISHED_SECONDS = 60.0
OTHER_WORK = "parts,sweeper,relay"


async def request_completion(wire: WireClient, upload_id: str) -> None:
    await wire.complete(upload_id, CHUNKS, wait_seconds=0)


async def rows_of(stage: Stage, upload_id: str) -> int:
    """Return the number of catalogue rows of an upload, in any state."""
    database = stage.services.mysql_url.rpartition("/")[2]
    query = f"SELECT COUNT(*) FROM {database}.nodes WHERE upload_id = '{upload_id}'"
    ((count,),) = await asyncio.to_thread(mysql_server.shared_server().run, query)
    return int(str(count))


async def completions_of(stage: Stage, upload_id: str) -> set[str]:
    """Return the ids of the upload's UploadCompleted events."""
    node_id = stage.oracle.observations.uploads[upload_id].node_id
    records = await kafka.records_in(KafkaOptions(stage.kafka_servers), UPLOADS_TOPIC)
    return {
        record.event_id
        for record in records
        if record.key == node_id and record.type.endswith(".UploadCompleted")
    }


@pytest.mark.row(8)
@pytest.mark.parametrize(
    ("point", "leases"),
    [
        pytest.param(
            CrashPoint.AFTER_CLAIM_COMPLETION,
            SHORT_LEASES,
            id="claimed",
            marks=pytest.mark.slow_fault,
        ),
        pytest.param(
            CrashPoint.AFTER_COMPLETE_MULTIPART,
            {},
            id="stored, with the leases of operators",
            marks=pytest.mark.slow_fault,
        ),
        pytest.param(CrashPoint.AFTER_COMPLETE_MULTIPART, SHORT_LEASES, id="stored"),
        pytest.param(
            CrashPoint.AFTER_CATALOGUE_COMMIT,
            SHORT_LEASES,
            id="committed",
            marks=pytest.mark.slow_fault,
        ),
        pytest.param(
            CrashPoint.AFTER_FINISH,
            SHORT_LEASES,
            id="completed, not cleaned up",
            marks=pytest.mark.slow_fault,
        ),
    ],
)
async def test_next_holder_finishes_a_dead_completers_upload(
    tmp_path: Path, point: CrashPoint, leases: dict[str, str]
) -> None:
    """Row 8: the next holder finishes it within 60 s; one row; one event id."""
    armed = {ENABLE_VARIABLE: "1", POINT_VARIABLE: point.value}
    async with separate_services(tmp_path, leases) as stage, stage.repository(OTHER_WORK):
        async with stage.repository("completer", armed) as dying:
            upload_id = await stage.send("file", CONTENT)
            await request_completion(stage.wire, upload_id)
            assert await asyncio.to_thread(dying.wait, 30) == EXIT_STATUS, dying.log_tail()
        died = time.monotonic()
        async with stage.repository("completer"):
            await stage.completed(upload_id, len(CONTENT), FINISHED_SECONDS)
            assert time.monotonic() - died < FINISHED_SECONDS
            await stage.judge()
        assert await rows_of(stage, upload_id) == 1
        assert len(await completions_of(stage, upload_id)) == 1
        assert stage.services.count_objects() == 1
