"""Runbooks of processes that are gone or too few, followed for real; see test_runbooks.py."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path
from typing import Final

import pytest

from sluice.upload.v1 import upload_pb2
from sluice_backends.kafka.publisher import open_kafka_publisher
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from support import kafka
from support.fleet import running
from support.network_faults import Faults
from support.photo_user import PhotoUser, photo_user
from support.prometheus import ends, fires
from support.waiting import until
from support.watched_fleet import MIB, WatchedFleet, processed, send_photos

pytestmark = [
    pytest.mark.slow_fault,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),  # seven processes start first, and ages are real
]

LATE_SECONDS: Final = 61.0
"""More than an objective allows."""
OLD_SECONDS: Final = 200.0
"""The age of waiting work counts from two minutes on."""
PHOTOS: Final = 12
"""More than a processor handles at a time."""
MANY_EVENTS: Final = 12_000
"""More than 10,000 of them wait behind photos that occupy the processor."""


async def test_missing_part_workers_are_started_again(fleet: WatchedFleet) -> None:
    """Work waits, and its upload completes too late for its objective."""
    watching, operator = fleet.watching, fleet.operator
    burns = ("SluiceCompletionBudgetFastBurn", "SluiceCompletionBudgetSlowBurn")
    await ends(watching, "SluiceRoleMissing", "SluiceQueueOld", *burns)
    content = bytes(9 * MIB)
    await fleet.upload(content)
    fleet.parts.kill()
    upload_id = await fleet.send(content)
    await fleet.complete(upload_id, len(content), wait_seconds=0)
    await fires(watching, "SluiceRoleMissing")
    await fires(watching, "SluiceQueueOld", seconds=OLD_SECONDS)
    assert "repository" in await operator.follow("queue-old", "xinfo groups")
    assert upload_id in await operator.follow("completion-budget", "sluice uploads --json")
    assert "COMPLETING" in await operator.follow(
        "completion-budget", "sluice status UPLOAD", UPLOAD=upload_id
    )
    await operator.follow("workload-gone", "scale deployment/NAME", NAME="repository-parts")
    assert operator.asked() == "scale deployment/repository-parts --replicas 2"
    await asyncio.to_thread(fleet.parts.start)
    await fires(watching, "SluiceCompletionBudgetFastBurn", "SluiceCompletionBudgetSlowBurn")
    ended = await fleet.complete(upload_id, len(content))
    assert ended == upload_pb2.UPLOAD_STATE_COMPLETED
    await ends(watching, "SluiceRoleMissing", "SluiceQueueOld", *burns)


async def test_missing_processor_is_started_again(fleet: WatchedFleet) -> None:
    """Photos wait too long for their objective, and gateways refuse new jobs."""
    watching, operator = fleet.watching, fleet.operator
    alerts = (
        "SluiceProcessorMissing",
        "SluiceJobsDeferred",
        "SluicePhotosBudgetFastBurn",
        "SluicePhotosBudgetSlowBurn",
    )
    await ends(watching, *alerts)
    async with photo_user(lambda: fleet.gateways) as user:
        await processed(user, await send_photos(user, 1))
        fleet.processor.kill()
        await kafka.forget_members(fleet.broker.options, "processor")
        photos = await send_photos(user, PHOTOS)
        sent_at = time.monotonic()
        await fires(watching, "SluiceProcessorMissing")
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ask_for_jobs(user))
            await fires(watching, "SluiceJobsDeferred")
            asking.cancel()
        assert "kafka" in await operator.follow("jobs-deferred", "grep jobs.deferred")
        await until(lambda: time.monotonic() - sent_at > LATE_SECONDS, 2 * LATE_SECONDS, "late")
        await operator.follow("processor-behind", "patch hpa processor")
        assert operator.asked() == 'patch hpa processor --patch {"spec": {"minReplicas": 12}}'
        await asyncio.to_thread(fleet.processor.start)
        await fires(watching, "SluicePhotosBudgetFastBurn", "SluicePhotosBudgetSlowBurn")
        await processed(user, photos)
        await ends(watching, *alerts)
        await processed(user, await send_photos(user, 1))


async def ask_for_jobs(user: PhotoUser) -> None:
    """Ask for new jobs, again and again; some are refused."""
    body = {"files": [{"filename": "a.jpg", "mimeType": "image/jpeg", "bytes": 1000}]}
    while True:
        key = secrets.token_hex(8)
        answer = await user.once("POST", "/commands/upload-jobs", body, key=key)
        assert answer.status == 201 or answer.reason == "BACK_PRESSURE", answer
        await asyncio.sleep(0.2)


async def test_slow_processor_gets_help(fleet: WatchedFleet, tmp_path: Path) -> None:
    """Its object store does not answer it; that of the second processor does."""
    watching, operator = fleet.watching, fleet.operator
    await ends(watching, "SluiceProcessorBehind")
    async with photo_user(lambda: fleet.gateways) as user:
        fleet.photo_line.both(Faults(stalled=True))
        await send_photos(user, PHOTOS)
        async with open_kafka_publisher(fleet.broker.options) as publisher:
            events = (kafka.failed(UPLOADS_TOPIC, f"n{n}", n) for n in range(MANY_EVENTS))
            await publisher.publish(list(events))
        await fires(watching, "SluiceProcessorBehind")
        await operator.follow("processor-behind", "patch hpa processor")
        async with running(fleet.second_processor(tmp_path)):
            await ends(watching, "SluiceProcessorBehind")
            fleet.photo_line.heal()


async def test_gateway_that_was_scaled_to_none_is_back(fleet: WatchedFleet) -> None:
    """The service discovery finds none any more; so no target is down."""
    watching, operator = fleet.watching, fleet.operator
    await ends(watching, "SluiceTargetsGone")
    assert await asyncio.to_thread(fleet.gateway.stop) == 0
    others = {job: found for job, found in fleet.targets.items() if job != "sluice-gateway"}
    await asyncio.to_thread(watching.scrape_only, others)
    await fires(watching, "SluiceTargetsGone")
    await operator.follow("workload-gone", "scale deployment/NAME", NAME="gateway")
    assert operator.asked() == "scale deployment/gateway --replicas 2"
    await asyncio.to_thread(fleet.gateway.start)
    await asyncio.to_thread(watching.scrape_only, fleet.targets)
    await ends(watching, "SluiceTargetsGone")
