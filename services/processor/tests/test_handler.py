"""The node handler: one result per content, and nothing left of what became obsolete."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sluice_core.catalogue.processing import NodeResult, ProcessingState, Recorded
from sluice_core.errors import Aborted, Unavailable
from sluice_core.ports.catalogue import DrivePolicy
from sluice_core.uploads.partial import CONCAT_KEY
from sluice_processor.nodes import examination as examining
from sluice_processor.nodes.handler import NodeProcessor, Outcome, Work
from sluice_processor.options import ProcessorOptions
from support.commits import DRIVE, TENANT, finished_upload
from support.pictures import CANARY_WORDS, CORNERS, EXIF_FACTS, GPS_FACTS, close, corners
from support.processor import IMAGES, PHOTO, Darkroom, darkroom, stored_thumbnails
from support.waiting import until

PROCESSED = Outcome("processed")


@pytest.mark.rule(14)
async def test_a_photo_gets_its_facts_and_upright_thumbnails(room: Darkroom) -> None:
    commit = await room.upload(PHOTO)
    assert await room.process(commit) == PROCESSED
    found = await room.result(commit)
    assert found is not None
    assert (found.state, found.content_type) == (ProcessingState.PROCESSED, "image/jpeg")
    assert (found.width, found.height, found.frames) == (320, 200, 1)
    assert dict(found.exif) == {**EXIF_FACTS, "orientation": 6}
    assert found.location is not None
    assert dict(found.location) == pytest.approx(GPS_FACTS)
    assert [(one.size, one.width, one.height) for one in found.thumbnails] == [
        (32, 32, 20),
        (64, 64, 40),
    ]
    for one in found.thumbnails:
        assert one.object.key.startswith(f"pre/thumbnails/{commit.node_id}/")
        data = await room.bytes_of(one.object)
        assert data is not None
        assert (len(data), one.content_type) == (one.size_bytes, "image/webp")

        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (one.width, one.height)
            assert close(corners(image), CORNERS)
            assert not image.getexif()


@pytest.mark.rule(20)
async def test_the_sha256_is_supplied_with_the_result(room: Darkroom) -> None:
    commit = await room.upload(PHOTO)
    await room.process(commit)
    node = await room.catalogue.get_node(TENANT, commit.node_id)
    assert node.sha256 == hashlib.sha256(PHOTO).digest()
    assert len(await room.events("NodeVerified")) == 1
    assert await room.catalogue.nodes_without_sha256(10) == []


async def test_other_file_gets_type_of_its_first_bytes(room: Darkroom) -> None:
    pdf = await room.upload(b"%PDF-1.7 " + bytes(100), "holiday.jpg")
    text = await room.upload(b"hello", "readme.txt")
    empty = await room.upload(b"", "empty.png")
    for commit in (pdf, text, empty):
        assert await room.process(commit) == PROCESSED
    found = [await room.result(commit) for commit in (pdf, text, empty)]
    assert [one.content_type for one in found if one] == [
        "application/pdf",
        "application/octet-stream",
        "application/octet-stream",
    ]
    assert room.decoder.calls == 0
    assert (await room.catalogue.get_node(TENANT, pdf.node_id)).content_type == "text/plain"


async def test_small_object_without_picture_is_not_spooled(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most uploads are no pictures; a processor must not slow them down."""
    batches: list[int] = []
    record = room.catalogue.record_all_processed

    async def counted(results: Sequence[NodeResult]) -> Sequence[Recorded]:
        if not batches:  # wait until the other calls have arrived
            await until(lambda: len(processor._results._waiting) == 20)
        batches.append(len(results))
        return await record(results)

    monkeypatch.setattr(room.catalogue, "record_all_processed", counted)
    monkeypatch.setattr(examining, "spooled", None)
    processor = NodeProcessor(room.deps)
    commits = [await room.upload(b"text %d" % number, f"{number}.txt") for number in range(20)]
    room.objects.calls.clear()
    works = (processor.process(Work(TENANT, commit.node_id)) for commit in commits)
    assert await asyncio.gather(*works) == [PROCESSED] * 20
    assert sorted(room.objects.calls) == ["head"] * 20 + ["read"] * 20
    assert len(batches) < 10
    keys = [event.key for event in await room.events("NodeProcessed")]
    assert sorted(keys) == sorted(commit.node_id for commit in commits)


async def test_large_object_without_picture_reads_only_its_head(tmp_path: Path) -> None:

    options = ProcessorOptions(images=replace(IMAGES, max_source_bytes=200), whole_bytes=100)
    async with darkroom(tmp_path, options) as room:
        commit = await room.upload(bytes(50_000))
        assert await room.process(commit) == PROCESSED
        assert (await room.catalogue.get_node(TENANT, commit.node_id)).sha256 is None
        photo = await room.upload(PHOTO)
        assert await room.process(photo) == Outcome("failed", "TOO_LARGE")
        assert room.decoder.calls == 0


@pytest.mark.rule(23)
async def test_repeated_work_is_a_noop(room: Darkroom) -> None:
    commit = await room.upload(PHOTO)
    outcomes = [await room.process(commit) for _ in range(3)]
    assert outcomes == [PROCESSED, Outcome("repeated"), Outcome("repeated")]
    assert (room.decoder.calls, room.objects.calls.count("put")) == (1, 2)
    assert len(await room.events("NodeProcessed")) == 1


async def test_concurrent_work_on_one_node_records_one_result(
    room: Darkroom, tmp_path: Path
) -> None:
    commit = await room.upload(PHOTO)
    outcomes = await asyncio.gather(*(room.process(commit) for _ in range(6)))
    assert sorted(outcome.kind for outcome in outcomes) == ["processed"] + ["repeated"] * 5
    assert len(await room.events("NodeProcessed")) == 1
    assert len(stored_thumbnails(tmp_path)) == 2
    assert await room.scheduled_deletions() == []


@pytest.mark.rule(26)
async def test_node_deleted_during_decoding_leaves_nothing(room: Darkroom, tmp_path: Path) -> None:
    commit = await room.upload(PHOTO)
    room.decoder.on_call = lambda: room.catalogue.delete_node(TENANT, commit.node_id)
    assert await room.process(commit) == Outcome("gone")
    assert stored_thumbnails(tmp_path) == []
    assert await room.events("NodeProcessed") == []
    assert await room.process(commit) == Outcome("gone")


@pytest.mark.rule(26)
async def test_node_superseded_during_writes_deletes_its_thumbnails(
    room: Darkroom, tmp_path: Path
) -> None:
    commit = await room.upload(PHOTO)

    async def supersede() -> None:
        room.objects.on_call.clear()
        await room.upload(b"other")

    room.objects.on_call["put"] = supersede
    assert await room.process(commit) == Outcome("gone")
    doomed = await room.scheduled_deletions()
    assert commit.object.key in doomed
    assert len(doomed) == 1 + len(stored_thumbnails(tmp_path)) == 3


@pytest.mark.rule(26)
async def test_thumbnails_of_dead_processor_are_deleted_with_node(
    room: Darkroom, tmp_path: Path
) -> None:
    commit = await room.upload(PHOTO)
    # Fail after the second thumbnail: the process dies between writing and recording.
    room.objects.after["put"] = [Unavailable("GONE", "…")]
    with pytest.raises(Unavailable):
        await room.process(commit)
    assert len(stored_thumbnails(tmp_path)) == 1
    await room.catalogue.delete_node(TENANT, commit.node_id)
    doomed = await room.scheduled_deletions()
    assert len([key for key in doomed if "thumbnails" in key]) == 2


async def test_object_replaced_during_processing_is_retried(room: Darkroom) -> None:
    commit = await room.upload(PHOTO)

    async def replace_object() -> None:
        room.decoder.on_call = None
        await room.put(commit.object, PHOTO)

    room.decoder.on_call = replace_object
    with pytest.raises(Aborted, match="OBJECT_CHANGED"):
        await room.process(commit)
    assert await room.process(commit) == PROCESSED
    found = await room.result(commit)
    info = await room.store.head(commit.object)
    assert found is not None
    assert info is not None
    assert found.etag == info.etag


async def test_gps_is_absent_from_logs_events_and_thumbnails(
    room: Darkroom, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    await room.catalogue.update_drive(TENANT, DRIVE, DrivePolicy(drop_location=True))
    whole = await room.upload(PHOTO)
    broken = await room.upload(PHOTO[:-2000], "b.jpg")
    await room.process(whole)
    await room.process(broken)
    found = await room.result(whole)
    assert found is not None
    assert found.location is None
    rows = await room.catalogue.outbox(100)
    said = "".join(capfd.readouterr()) + repr(rows) + json.dumps(dict(found.exif)) + repr(found)
    kept = b"".join([(await room.bytes_of(one.object)) or b"" for one in found.thumbnails])
    for word in CANARY_WORDS:
        assert word not in said
        assert word.encode() not in kept
    assert b"Exif" not in kept


async def test_partial_upload_is_left_alone(room: Darkroom) -> None:
    """It is deleted as soon as it is put together with others; the whole is processed."""
    partial = finished_upload("part", content=PHOTO, metadata={CONCAT_KEY: "partial"})
    whole = finished_upload("whole", content=PHOTO, metadata={CONCAT_KEY: "final;/files/a"})
    for commit in (partial, whole):
        await room.put(commit.object, PHOTO)
        await room.catalogue.commit_node(commit)
    assert await room.process(partial) == Outcome("ignored", "PARTIAL_UPLOAD")
    assert await room.result(partial) is None
    assert await room.process(whole) == PROCESSED
