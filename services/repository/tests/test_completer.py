"""Tests of the completer: one object, one node, one event, or one clear reason (rule 18)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import stamina

from sluice_core.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    SluiceError,
    Unavailable,
)
from sluice_core.objects.body import BytesBody
from sluice_core.ports import StoredPartRecord, WorkItem, WorkKind
from sluice_core.ports.object_store import ObjectAttributes, PartTag
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import Integrity, ObjectRef, UploadStatus
from sluice_repository.roles.assembly import PartsLost, reconciled
from support.roles import TENANT, World, pieces

UNAVAILABLE = Unavailable("STORE_UNAVAILABLE", "The answer was lost.")
INVALID_PART = FailedPrecondition("INVALID_PART", "The store does not know this part.")
CHUNKS = pieces(3_300, 500)
CONTENT = b"".join(CHUNKS)


async def store_all(world: World) -> None:
    """Run the part workers only: all parts are stored, no upload is completed."""
    while await world.part_worker.work_one(0):
        pass


# ------------------------------------------------------------------ claims and policies


@pytest.mark.rule(20)
@pytest.mark.parametrize("chunks", [CHUNKS, pieces(700, 100)], ids=["multipart", "single put"])
@pytest.mark.parametrize("when", ["at the beginning", "at the end"])
async def test_matching_claims_complete_and_node_has_sha256(
    world: World, chunks: list[bytes], when: str
) -> None:
    content = b"".join(chunks)
    claims: dict[str, Any] = {"sha256": hashlib.sha256(content).digest(), "crc32c": crc32c(content)}
    upload = await world.begin(chunks, **(claims if when == "at the beginning" else {}))
    for number in range(len(chunks)):
        await world.send(upload, number)
    await world.complete(upload, **({} if when == "at the beginning" else claims))
    await world.settle(30)
    node = await world.assert_whole(upload)
    assert node is not None
    assert node.sha256 == claims["sha256"]


@pytest.mark.parametrize("chunks", [CHUNKS, pieces(700, 100)], ids=["multipart", "single put"])
@pytest.mark.parametrize("claim", [{"sha256": b"\0" * 32}, {"crc32c": 1}], ids=["sha256", "crc32c"])
async def test_wrong_claim_fails_the_upload_without_leftovers(
    world: World, chunks: list[bytes], claim: dict[str, Any]
) -> None:
    upload = await world.upload(chunks, **claim)
    await world.work()
    snapshot = await world.snapshot(upload)
    assert snapshot.status is UploadStatus.FAILED
    assert snapshot.failure_reason == "CHECKSUM_MISMATCH"
    with pytest.raises(NotFound):
        await world.node(upload)
    await world.settle(30)
    assert (await world.orphans()).none()
    assert world.publisher.types(upload.new.node_id) == ["UploadInitiated", "UploadFailed"]


@pytest.mark.rule(20)
async def test_sha256_before_visible_reads_the_object_back(world: World) -> None:
    upload = await world.upload(CHUNKS, integrity=Integrity.SHA256_BEFORE_VISIBLE)
    await world.work()
    assert (await world.node(upload)).sha256 == hashlib.sha256(CONTENT).digest()
    assert "read" in world.objects.calls


@pytest.mark.parametrize(
    "error",
    [
        DataLoss("OBJECT_DAMAGED", "The stored bytes are damaged."),
        NotFound("OBJECT_NOT_FOUND", "There is no such object."),
    ],
)
async def test_unreadable_object_fails_the_upload(world: World, error: SluiceError) -> None:
    async def broken(ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        yield b"x"
        raise error

    world.objects.read = broken  # type: ignore[method-assign]
    upload = await world.upload(CHUNKS, integrity=Integrity.SHA256_BEFORE_VISIBLE)
    await world.work()
    snapshot = await world.snapshot(upload)
    assert (snapshot.status, snapshot.failure_reason) == (UploadStatus.FAILED, error.reason)
    await world.settle(10)
    assert (await world.orphans()).none()


@pytest.mark.rule(20)
async def test_object_is_not_read_back_by_default(world: World) -> None:
    upload = await world.upload(CHUNKS)
    await world.work()
    assert (await world.node(upload)).sha256 is None
    assert "read" not in world.objects.calls


@pytest.mark.rule(18)
async def test_object_damaged_in_store_never_becomes_visible(
    world: World,
) -> None:
    upload = await world.upload(pieces(700, 100))
    await store_all(world)
    await world.objects.put(upload.new.object, BytesBody(b"other"), ObjectAttributes())
    await world.work()
    snapshot = await world.snapshot(upload)
    assert (snapshot.status, snapshot.failure_reason) == (UploadStatus.FAILED, "CHECKSUM_MISMATCH")
    with pytest.raises(NotFound):
        await world.node(upload)


# ------------------------------------------------------------------ the store's answers


@pytest.mark.rule(18)
async def test_lost_answer_of_complete_is_resolved_by_head(world: World) -> None:
    world.objects.after = {"complete_multipart": [UNAVAILABLE]}
    upload = await world.upload(CHUNKS)
    await world.settle(30)
    await world.assert_whole(upload)
    assert world.outcomes("sluice_completions") == {"retried": 1, "completed": 1}
    assert (await world.orphans()).none()


@pytest.mark.rule(13)
async def test_lost_answer_of_open_leaves_no_multipart(world: World) -> None:
    world.objects.after = {"open_multipart": [UNAVAILABLE]}
    upload = await world.upload(CHUNKS)
    await world.settle(30)
    await world.assert_whole(upload)
    assert (await world.orphans()).none()


async def test_lost_multipart_without_object_fails_the_upload(world: World) -> None:
    upload = await world.upload(CHUNKS)
    await store_all(world)
    multipart_id = (await world.snapshot(upload)).multipart_id
    await world.objects.abort_multipart(upload.new.object, multipart_id)
    await world.work()
    assert (await world.snapshot(upload)).failure_reason == "MULTIPART_NOT_FOUND"


@pytest.mark.rule(18)
async def test_object_in_place_of_multipart_must_match_the_upload(
    world: World,
) -> None:
    upload = await world.upload(CHUNKS)
    await store_all(world)
    multipart_id = (await world.snapshot(upload)).multipart_id
    await world.objects.abort_multipart(upload.new.object, multipart_id)
    other = BytesBody(bytes(len(CONTENT)))  # as long, and not the same
    await world.objects.put(upload.new.object, other, ObjectAttributes())
    await world.work()
    assert (await world.snapshot(upload)).failure_reason == "CHECKSUM_MISMATCH"
    with pytest.raises(NotFound):
        await world.node(upload)


@pytest.mark.rule(16)
async def test_part_replaced_by_same_bytes_is_accepted(world: World) -> None:
    """A late duplicate UploadPart gave the part another ETag (rule 16)."""
    upload = await world.upload(CHUNKS)
    await store_all(world)
    multipart_id = (await world.snapshot(upload)).multipart_id
    first = CONTENT[:1_000]
    await world.objects.put_part(upload.new.object, multipart_id, 1, BytesBody(first))
    await world.work()
    await world.settle(20)
    await world.assert_whole(upload)
    assert world.outcomes("sluice_completions") == {"completed": 1}


@pytest.mark.rule(16)
async def test_part_replaced_by_other_bytes_is_reopened(world: World) -> None:
    upload = await world.upload(CHUNKS)
    await store_all(world)
    multipart_id = (await world.snapshot(upload)).multipart_id
    await world.objects.put_part(upload.new.object, multipart_id, 2, BytesBody(b"x" * 1_000))
    await world.work()
    assert world.outcomes("sluice_completions") == {"reopened": 1}
    assert await world.status(upload) is UploadStatus.UPLOADING
    assert await world.resend_missing(upload) == [2, 3]
    await world.settle(60)
    await world.assert_whole(upload)
    assert (await world.orphans()).none()


@pytest.mark.rule(16)
async def test_lost_single_put_is_reopened(world: World) -> None:
    upload = await world.upload(pieces(700, 350))
    await store_all(world)
    await world.objects.delete(upload.new.object)
    await world.work()
    assert await world.resend_missing(upload) == [0, 1]
    await world.settle(60)
    await world.assert_whole(upload)


@pytest.mark.rule(16)
async def test_store_refusing_listed_parts_fails_the_upload(world: World) -> None:
    world.objects.before = {"complete_multipart": [INVALID_PART] * 3}
    upload = await world.upload(CHUNKS)
    await world.work()
    assert (await world.snapshot(upload)).failure_reason == "INVALID_PART"


@pytest.mark.parametrize(
    "error",
    [
        NotFound("BUCKET_NOT_FOUND", "There is no such bucket."),
        PermissionDenied("STORE_DENIED", "The store refuses."),
        FailedPrecondition("PART_TOO_SMALL", "A part is too small."),
    ],
)
async def test_permanent_store_error_fails_the_upload_with_reason(
    world: World, error: SluiceError
) -> None:
    world.objects.before = {"complete_multipart": [error]}
    upload = await world.upload(CHUNKS)
    await world.work()
    snapshot = await world.snapshot(upload)
    assert (snapshot.failure_reason, snapshot.failure_detail) == (error.reason, error.message)


@pytest.mark.rule(16)
def test_listed_parts_match_by_size_and_checksum_or_etag() -> None:
    parts = [StoredPartRecord(n, f"e{n}", 10 * n, n) for n in (1, 2, 3)]
    same = [PartTag(1, "e1", 10, 1), PartTag(2, "new", 20, 2), PartTag(3, "e3", 30, None)]
    assert list(reconciled(parts, same)) == same
    with pytest.raises(PartsLost) as lost:
        reconciled(parts, [PartTag(1, "e1", 11, 1), PartTag(3, "other", 30, None)])
    assert list(lost.value.numbers) == [1, 2, 3]


# ------------------------------------------------------------------ more than one completer


@pytest.mark.rule(18)
async def test_two_completers_create_one_node(world: World) -> None:
    """The second claims the upload while the first is paused past its lease in a store call."""
    upload = await world.upload(CHUNKS)
    await store_all(world)

    async def sleep_past_the_lease() -> None:
        del world.objects.on_call["complete_multipart"]
        world.clock.advance(20)
        await world.deps.queue.put(WorkItem(WorkKind.COMPLETION, upload.id, TENANT))
        assert await world.completion_worker.work_one(0)
        assert await world.status(upload) is UploadStatus.COMPLETED

    world.objects.on_call["complete_multipart"] = sleep_past_the_lease
    await world.completion_worker.work_one(0)
    assert world.outcomes("sluice_completions") == {"completed": 1, "lost": 1}
    await world.settle(30)
    await world.assert_whole(upload)
    assert (await world.orphans()).none()


@pytest.mark.rule(18)
async def test_completer_without_claim_creates_no_node(world: World) -> None:
    """The upload fails during its store call."""
    upload = await world.upload(CHUNKS)
    await store_all(world)

    async def fail_upload() -> None:
        await world.deps.ledger.fail(upload.id, "TEST", "failed by another worker")

    world.objects.on_call["complete_multipart"] = fail_upload
    await world.completion_worker.work_one(0)
    assert world.outcomes("sluice_completions") == {"lost": 1}
    with pytest.raises(NotFound):
        await world.node(upload)
    await world.settle(30)
    assert (await world.orphans()).none()


@pytest.mark.rule(19)
async def test_replaying_completer_does_not_restore_deleted_node(world: World) -> None:
    upload = await world.upload(CHUNKS)
    await store_all(world)
    finish = world.deps.ledger.finish
    failures = [Unavailable("LEDGER_UNAVAILABLE", "The ledger is unavailable.")] * 6

    async def away(*args: object) -> object:
        if failures:
            raise failures.pop()
        return await finish(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, stamina.set_testing(True, attempts=6, cap=True):
        patch.setattr(world.deps.ledger, "finish", away)
        await world.completion_worker.work_one(0)
        await world.catalogue.delete_node(TENANT, upload.new.node_id)
        await world.settle(30)
    assert await world.status(upload) is UploadStatus.COMPLETED
    with pytest.raises(NotFound):
        await world.node(upload)


async def test_unknown_conflict_is_retried_unlike_existing_path(world: World) -> None:
    """Only reasons that no retry changes fail an upload."""
    upload = await world.upload(CHUNKS)
    commit = world.catalogue.commit_node
    conflicts = [AlreadyExists("SOMETHING_ELSE", "An unknown conflict.")]

    async def conflicting(*args: object) -> object:
        if conflicts:
            raise conflicts.pop()
        return await commit(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.catalogue, "commit_node", conflicting)
        await world.settle(30)
    await world.assert_whole(upload)
    assert world.outcomes("sluice_completions") == {"error": 1, "completed": 1}
