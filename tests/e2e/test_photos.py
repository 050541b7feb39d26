"""Photo processing end to end: results, events, repetitions and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_core.catalogue.processing import ProcessingState
from sluice_core.events.uploads import processing_requested
from sluice_core.objects.body import BytesBody
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from sluice_core.ports.object_store import ObjectAttributes
from support import kafka as kafka_support
from support.commits import TENANT
from support.exported_metrics import documented, scraped
from support.photo_stage import SECONDS, Stage, dead_letters, photo_stage, running
from support.pictures import CANARY_WORDS, as_stored, exif, quadrants, saved
from support.waiting import metric, until

PHOTO = saved(as_stored(quadrants(), 6), "JPEG", quality=92, exif=exif(6))
NOT_AN_IMAGE = b"%PDF-1.7 " + bytes(1000)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with photo_stage(tmp_path) as opened:
        yield opened


async def test_photos_are_processed_and_events_published(stage: Stage) -> None:
    async with running(stage.processor()) as process:
        photo = await stage.upload("a.jpg", PHOTO)
        other = await stage.upload("b.jpg", NOT_AN_IMAGE)
        broken = await stage.upload("c.jpg", PHOTO[:-1500])
        done, pdf, failed = await stage.processed(photo, other, broken)
        assert (done.state, done.content_type) == (ProcessingState.PROCESSED, "image/jpeg")
        assert [one.size for one in done.thumbnails] == [32, 64]
        assert (pdf.state, pdf.content_type) == (ProcessingState.PROCESSED, "application/pdf")
        assert (failed.state, failed.reason) == (ProcessingState.FAILED, "TRUNCATED")
        for one in done.thumbnails:
            info = await stage.objects.head(one.object)
            assert info is not None
            assert (info.size, info.etag) == (one.size_bytes, one.etag)
        assert sorted(await stage.relay()) == [
            "NodeProcessed",
            "NodeProcessed",
            "NodeProcessingFailed",
            *["NodeVerified"] * 3,  # small objects are read whole, even if they are no pictures
        ]
        assert await metric(process.metrics_address, "sluice_processor_delay_seconds_count") == 3
        assert scraped(process.metrics_address) == documented()["processor"]
        assert await asyncio.to_thread(process.stop) == 0
    for word in CANARY_WORDS:
        assert word not in process.log.read_text()


@pytest.mark.slow
async def test_a_repeated_event_has_no_effect(stage: Stage) -> None:
    async with running(stage.processor()) as process:
        photo = await stage.upload("a.jpg", PHOTO)
        await stage.processed(photo)
        await stage.relay()
        records = await kafka_support.records_in(stage.kafka, UPLOADS_TOPIC)
        (event,) = [record for record in records if record.key == photo.node_id]
        # Published again, as by a second source: deduplication by event id does not apply.
        await stage.publisher.publish([event])
        await asyncio.to_thread(process.stop)
        await asyncio.to_thread(process.start)
        await stage.publisher.publish([event])

        async def repeated() -> bool:
            labels = {"outcome": "repeated"}
            return (
                await metric(process.metrics_address, "sluice_processor_nodes_total", **labels) > 0
            )

        await until(repeated, SECONDS, "the repeated event was handled")
    assert await stage.relay() == []


@pytest.mark.slow
async def test_failed_photo_is_processed_again_on_request(stage: Stage) -> None:
    """The request of the gateway for the same bytes, after the operator has raised a limit.

    Slow: two processors start.
    """
    stage.settings["SLUICE_PROCESSOR__MAX_PIXELS"] = "100"
    async with running(stage.processor()):
        photo = await stage.upload("a.jpg", PHOTO)
        (failed,) = await stage.processed(photo)
        assert (failed.state, failed.reason) == (ProcessingState.FAILED, "TOO_MANY_PIXELS")
    del stage.settings["SLUICE_PROCESSOR__MAX_PIXELS"]
    await stage.relay()
    async with running(stage.processor()):
        asked = processing_requested(TENANT, photo.node_id, failed.processed_at + 1)
        await stage.publisher.publish([asked])

        async def is_processed() -> bool:
            found = await stage.result(photo)
            return found is not None and found.state is ProcessingState.PROCESSED

        await until(is_processed, SECONDS, "the photo is processed again")
        (again,) = await stage.processed(photo)
        assert (again.etag, len(again.thumbnails)) == (failed.etag, 2)
        assert "NodeProcessed" in await stage.relay()


@pytest.mark.row(20)
@pytest.mark.slow
async def test_dead_letters_are_listed_replayed_and_dropped(stage: Stage) -> None:
    """A damaged object is dead-lettered at once; after its repair the letter is replayed."""
    assert await asyncio.to_thread(dead_letters, stage, "list") == []
    async with running(stage.processor()):
        damaged = [
            await stage.upload(f"{number}.jpg", PHOTO, stored=NOT_AN_IMAGE) for number in range(2)
        ]
        good = await stage.upload("good.jpg", PHOTO)
        await stage.processed(good)

        async def dead_lettered() -> bool:
            return len(await asyncio.to_thread(dead_letters, stage, "list")) == 2

        await until(dead_lettered, SECONDS, "both are dead letters")
        letters = await asyncio.to_thread(dead_letters, stage, "list")
        assert {one["reason"] for one in letters} == {"CHECKSUM_MISMATCH"}
        assert {one["subject"] for one in letters} == {commit.node_id for commit in damaged}
        for commit in damaged:
            await stage.objects.put(commit.object, BytesBody(PHOTO), ObjectAttributes())
        (replayed,) = await asyncio.to_thread(dead_letters, stage, "replay", "--count", "1")
        (again,) = [one for one in damaged if one.node_id == replayed["subject"]]

        async def is_processed() -> bool:
            found = await stage.result(again)
            return found is not None and found.state is ProcessingState.PROCESSED

        await until(is_processed, SECONDS, "the replayed one is processed")
        (dropped,) = await asyncio.to_thread(dead_letters, stage, "drop")
        assert dropped["subject"] != replayed["subject"]
        assert await asyncio.to_thread(dead_letters, stage, "list") == []
