"""Runbooks followed for real on S3, Kafka, MySQL and Redis; see test_runbooks.py."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import pytest

from sluice_core.catalogue.processing import ProcessingState
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectAttributes
from support.clone import ROOT
from support.http_faults import HttpFaults
from support.photo_stage import dead_letters, photo_stage, running
from support.pictures import quadrants, saved
from support.prometheus import ends, fires, prometheus
from support.separate_services import ALL_WORK, MIB, s3_by, s3_line, separate_services
from support.waiting import until
from tools.monitoring.files import PROMETHEUS

pytestmark = [pytest.mark.slow_fault, pytest.mark.usefixtures("prometheus_programs")]

RULES: Final = (ROOT / PROMETHEUS / "rules" / "causes.yaml",)
PHOTO: Final = saved(quadrants(), "JPEG", quality=92)
DAMAGED: Final = PHOTO[:-20] + bytes(20)
CONTENT: Final = random.Random(7).randbytes(2 * MIB)
SECONDS: Final = 90.0
BREAKER_SECONDS: Final = 200.0
"""The condition looks back for two minutes."""


async def test_dead_letter_is_replayed_when_its_object_is_back(tmp_path: Path) -> None:
    """The store returns other bytes than were uploaded; a copy of the object is restored."""
    async with photo_stage(tmp_path) as stage, running(stage.processor()) as process:
        targets = {"sluice-processor": [process.metrics_address]}
        with prometheus(tmp_path / "prometheus", targets, RULES) as watching:
            photo = await stage.upload("a.jpg", PHOTO, stored=DAMAGED)
            await fires(watching, "SluiceDeadLetters")
            await fires(watching, "SluiceIntegrityFailure")
            (letter,) = dead_letters(stage, "list")
            assert letter["reason"] == "CHECKSUM_MISMATCH"
            await stage.objects.put(photo.object, BytesBody(PHOTO), ObjectAttributes())
            dead_letters(stage, "replay", "--count", "10")

            async def is_processed() -> bool:
                found = await stage.result(photo)
                return found is not None and found.state is ProcessingState.PROCESSED

            await until(is_processed, SECONDS, "the photo is processed")
            assert dead_letters(stage, "list") == []


@pytest.mark.timeout(600)
async def test_store_that_is_back_closes_the_breaker(tmp_path: Path) -> None:
    """And the upload completes without a restart."""
    async with (
        s3_line(HttpFaults()) as line,
        separate_services(tmp_path) as stage,
        stage.repository(ALL_WORK, s3_by(line)) as workers,
    ):
        targets = {"sluice-repository": [workers.metrics_address]}
        with prometheus(tmp_path / "prometheus", targets, RULES) as watching:
            line.refuse()
            upload_id = await stage.send("file", CONTENT)
            await fires(watching, "SluiceStoreBreakerOpen")
            line.heal()
            await ends(watching, "SluiceStoreBreakerOpen", seconds=BREAKER_SECONDS)
        await stage.completed(upload_id, len(CONTENT), SECONDS)
        await stage.judge()
