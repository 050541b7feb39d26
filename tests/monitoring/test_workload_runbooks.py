"""Runbooks of processes that are gone or too few, followed for real; see test_runbooks.py."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Final

import pytest

from support import kafka
from support.photo_user import PhotoUser, photo_user
from support.prometheus import ends, fires
from support.waiting import until
from support.watched_fleet import WatchedFleet, processed, send_photos

pytestmark = [
    pytest.mark.slow_fault,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),  # seven processes start first
]

LATE_SECONDS: Final = 61.0
"""More than an objective allows."""
PHOTOS: Final = 12
"""More of them wait than the gateway accepts."""


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
