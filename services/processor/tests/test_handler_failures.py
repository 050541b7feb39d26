"""The node handler when decoders, objects or stores fail."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sluice_core.catalogue.processing import ProcessingState
from sluice_core.errors import FailedPrecondition, Unavailable
from sluice_core.events.registry import parse_record
from sluice_processor.images.model import ImageRefused, RefusalReason
from sluice_processor.nodes.handler import Outcome, Work
from support.commits import TENANT
from support.pictures import CANARY_WORDS, quadrants, saved
from support.processor import PHOTO, Darkroom

CRASH = ImageRefused(RefusalReason.CRASHED, "The child died.")
PROCESSED = Outcome("processed")


def metric(room: Darkroom, name: str, **labels: str) -> float:
    return room.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PHOTO[: len(PHOTO) // 2], "TRUNCATED"),
        (saved(quadrants(), "BMP"), "UNSUPPORTED_FORMAT"),
    ],
)
async def test_refused_picture_marks_node_failed_with_reason(
    room: Darkroom, content: bytes, reason: str
) -> None:
    commit = await room.upload(content)
    assert await room.process(commit) == Outcome("failed", reason)
    assert await room.process(commit) == Outcome("repeated")
    found = await room.result(commit)
    assert found is not None
    assert (found.state, found.reason) == (ProcessingState.FAILED, reason)
    assert found.detail
    assert len(await room.events("NodeProcessingFailed")) == 1
    assert metric(room, "sluice_processor_nodes_total", outcome="failed", reason=reason) == 1


async def test_decoder_that_dies_once_is_retried(room: Darkroom) -> None:
    commit = await room.upload(PHOTO)
    room.decoder.errors = [CRASH]
    assert await room.process(commit) == PROCESSED


@pytest.mark.row(20)
async def test_photo_that_kills_decoders_fails_alone_and_is_retryable(
    room: Darkroom,
) -> None:
    commit = await room.upload(PHOTO)
    room.decoder.errors = [CRASH, CRASH, CRASH, CRASH]
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match="CRASHED"):
            await room.process(commit)
    found = await room.result(commit)
    assert found is not None
    assert (found.state, found.reason) == (ProcessingState.FAILED, "CRASHED")
    assert len(await room.events("NodeProcessingFailed")) == 1
    other = await room.upload(PHOTO, "b.jpg")
    assert await room.process(other) == PROCESSED
    assert await room.process(commit) == PROCESSED
    found = await room.result(commit)
    assert found is not None
    assert found.state is ProcessingState.PROCESSED


async def test_timeout_is_recorded_only_when_it_is_final(room: Darkroom) -> None:
    """Until then the node stays pending, and no failure is published."""
    commit = await room.upload(PHOTO)
    timeout = ImageRefused(RefusalReason.TIMEOUT, "…")
    room.decoder.errors = [timeout, timeout]
    work = Work(TENANT, commit.node_id, is_final=False)
    with pytest.raises(FailedPrecondition) as failed:
        await room.processor.process(work)
    assert failed.value.reason == "TIMEOUT"
    assert await room.result(commit) is None
    assert await room.events("NodeProcessingFailed") == []
    with pytest.raises(FailedPrecondition):
        await room.processor.process(replace(work, is_final=True))
    found = await room.result(commit)
    assert found is not None
    assert (found.state, found.reason) == (ProcessingState.FAILED, "TIMEOUT")
    assert (await room.processor.process(work)).kind == "processed"


async def test_damage_that_hides_no_pixel_is_noted(room: Darkroom) -> None:
    commit = await room.upload(saved(quadrants(), "JPEG")[:-2])
    await room.process(commit)
    found = await room.result(commit)
    assert found is not None
    assert (found.state, found.reason, found.damaged) == (ProcessingState.PROCESSED, "", True)
    assert len(found.thumbnails) == 2
    (event,) = await room.events("NodeProcessed")
    assert parse_record(event).damaged is True  # type: ignore[attr-defined]
    whole = await room.upload(saved(quadrants(), "JPEG"), "b.jpg")
    await room.process(whole)
    other = await room.result(whole)
    assert other is not None
    assert not other.damaged


async def test_a_damaged_object_gets_no_sha256_and_no_thumbnail(room: Darkroom) -> None:
    commit = await room.upload(PHOTO)
    info = await room.store.head(commit.object)
    await room.put(commit.object, PHOTO[:-1] + b"?")
    with pytest.raises(FailedPrecondition, match="CHECKSUM_MISMATCH"):
        await room.process(commit)
    node = await room.catalogue.get_node(TENANT, commit.node_id)
    found = await room.result(commit)
    assert info is not None
    assert found is not None
    assert (found.reason, node.sha256, room.decoder.calls) == ("CHECKSUM_MISMATCH", None, 0)
    assert metric(room, "sluice_integrity_failures_total", where="processor") == 1
    await room.put(commit.object, PHOTO)
    assert await room.process(commit) == PROCESSED


async def test_sha256_mismatch_is_damage(room: Darkroom) -> None:
    commit = await room.upload(PHOTO, sha256=b"\x01" * 32)
    with pytest.raises(FailedPrecondition, match="CHECKSUM_MISMATCH"):
        await room.process(commit)


async def test_checksum_mismatch_is_read_again(
    room: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = await room.upload(PHOTO)
    read = room.objects.read
    flips = [True]

    async def flipping(*arguments: object) -> AsyncIterator[bytes]:
        async for block in read(*arguments):  # type: ignore[arg-type]
            yield bytes([block[0] ^ (1 if flips and flips.pop() else 0)]) + block[1:]

    monkeypatch.setattr(room.objects, "read", flipping)
    assert await room.process(commit) == PROCESSED


async def test_unavailable_store_is_retryable(room: Darkroom) -> None:
    commit = await room.upload(PHOTO)
    away = Unavailable("STORE_UNAVAILABLE", "…")
    for name in ("head", "put"):
        room.objects.before[name] = [away]
        with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
            await room.process(commit)
    assert await room.result(commit) is None
    assert await room.process(commit) == PROCESSED


async def test_lost_object_raises_unavailable(room: Darkroom) -> None:
    commit = await room.upload(PHOTO)
    await room.store.delete(commit.object)
    with pytest.raises(Unavailable, match="OBJECT_MISSING"):
        await room.process(commit)
    await room.catalogue.delete_node(TENANT, commit.node_id)
    assert await room.process(commit) == Outcome("gone")


@pytest.mark.row(20)
async def test_text_of_unexpected_error_is_hidden(
    room: Darkroom, capfd: pytest.CaptureFixture[str]
) -> None:
    """The text of a defect may quote the picture; it must not leave the handler."""
    commit = await room.upload(PHOTO)
    cause = KeyError({"GPSLatitude": CANARY_WORDS})
    defect = ValueError(*CANARY_WORDS)
    defect.__cause__ = cause
    room.decoder.errors = [defect]
    with pytest.raises(
        Unavailable, match="HANDLER_FAILED: The processor raised ValueError"
    ) as raised:
        await room.process(commit)
    said = "".join([*traceback.format_exception(raised.value), *capfd.readouterr()])
    assert "node.handling_failed" in said
    assert "examination.py" in said
    for word in CANARY_WORDS:
        assert word not in said
    assert await room.process(commit) == PROCESSED


async def test_requested_node_is_examined_again(room: Darkroom) -> None:
    """With the same ETag, whatever the reason was; a second failure is published as well.

    Otherwise a photo that was reprocessed would wait for an event that never comes.
    """
    commit = await room.upload(PHOTO)
    work = Work(TENANT, commit.node_id)
    asked = replace(work, is_requested=True)
    corrupt = ImageRefused(RefusalReason.CORRUPT, "…")
    room.decoder.errors = [corrupt, corrupt]
    failed = Outcome("failed", "CORRUPT")
    assert await room.processor.process(work) == failed
    first = await room.result(commit)
    assert await room.processor.process(work) == Outcome("repeated")
    assert await room.processor.process(asked) == failed
    second = await room.result(commit)
    assert first is not None
    assert second is not None
    assert second.etag == first.etag
    assert second.processed_at > first.processed_at
    events = await room.events("NodeProcessingFailed")
    assert len({event.event_id for event in events}) == 2
    assert await room.processor.process(asked) == PROCESSED
    assert len(await room.events("NodeProcessed")) == 1
    # What was processed stays so, however often it is asked for.
    assert await room.processor.process(asked) == Outcome("repeated")
    assert room.decoder.calls == 3
