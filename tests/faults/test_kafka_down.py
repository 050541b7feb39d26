"""Fault 10: a Kafka outage."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import mysql_server
from support.kafka_broker import KafkaBroker
from support.separate_services import ALL_WORK, MIB, PART_BYTES, Stage, separate_services
from support.waiting import until

IN_PARTS = random.Random(10).randbytes(PART_BYTES + MIB)
IN_ONE = random.Random(11).randbytes(MIB)
DRAINED_SECONDS = 120.0
COMPLETED_SECONDS = 30.0
BETWEEN_UPLOADS_SECONDS = 0.5


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[KafkaBroker]:
    """Run a separate broker, so that killing it does not affect other tests."""
    broker = KafkaBroker(tmp_path)
    try:
        await broker.start()
        yield broker
    finally:
        broker.kill()


async def waiting(stage: Stage) -> Counter[str]:
    """Return the number of unpublished events by type."""
    database = stage.services.mysql_url.rpartition("/")[2]
    query = f"SELECT type FROM {database}.outbox"
    rows = await asyncio.to_thread(mysql_server.shared_server().run, query)
    return Counter(str(name).rpartition(".")[2] for (name,) in rows)


@pytest.mark.row(10)
@pytest.mark.parametrize(
    "outage_seconds",
    [
        pytest.param(5, id="for a moment"),
        pytest.param(
            600,
            id="for ten minutes",
            marks=[pytest.mark.slow_fault, pytest.mark.timeout(1200)],
        ),
    ],
)
async def test_uploads_complete_while_kafka_is_down(
    tmp_path: Path, broker: KafkaBroker, outage_seconds: float
) -> None:
    """Row 10: the outbox grows, and is drained in order within 120 s after Kafka is back."""
    settings = {"SLUICE_KAFKA__BOOTSTRAP_SERVERS": broker.options.bootstrap_servers}
    async with separate_services(tmp_path, settings) as stage, stage.repository(ALL_WORK):

        async def nothing_waits() -> bool:
            return not await waiting(stage)

        before = await stage.send("before", IN_PARTS)
        await stage.completed(before, len(IN_PARTS), COMPLETED_SECONDS)
        await until(nothing_waits, DRAINED_SECONDS, "with Kafka up the outbox is emptied")
        # This upload starts before the outage and completes during it.
        under_way = await stage.send("under way", IN_PARTS)
        broker.kill()
        over = time.monotonic() + outage_seconds
        await stage.completed(under_way, len(IN_PARTS), COMPLETED_SECONDS)
        completed = 1
        while time.monotonic() < over or completed < 4:
            upload_id = await stage.send(f"file-{completed}", IN_ONE)
            await stage.completed(upload_id, len(IN_ONE), COMPLETED_SECONDS)
            completed += 1
            await asyncio.sleep(BETWEEN_UPLOADS_SECONDS)
        grown = await waiting(stage)
        assert grown["UploadCompleted"] == completed
        # One per upload; that of the upload under way may have been published before the outage.
        assert grown["UploadInitiated"] in (completed - 1, completed)
        await broker.start()
        await until(nothing_waits, DRAINED_SECONDS, "the outbox is drained")
        await stage.judge()
