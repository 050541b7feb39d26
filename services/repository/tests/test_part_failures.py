"""Tests of the part workers: damaged chunks and store failures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice_core.errors import (
    DataLoss,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SluiceError,
    Unavailable,
)
from sluice_core.ports import WorkItem
from sluice_core.uploads.model import PartPlan, UploadStatus
from support.roles import HOUR, World, pieces

UNAVAILABLE = Unavailable("STORE_UNAVAILABLE", "The store is away; try again.")
MISMATCH = DataLoss("CHECKSUM_MISMATCH", "The store received other bytes.")


# ------------------------------------------------------------------ damaged chunks (rule 8)


@pytest.mark.rule(8)
async def test_damaged_chunks_are_reported_missing_and_resent(world: World) -> None:
    upload = await world.upload(pieces(2_000, 250))
    refs = await world.deps.ledger.part_chunks(
        upload.id, await plan_of(world, upload.id, 1), -1, 10
    )
    # Two of the first part's four chunks are gone.
    await world.deps.chunks.drop(upload.id, [refs[1].token, refs[3].token])
    await world.work()
    assert world.outcomes()["rejected"] == 1
    assert await world.status(upload) is UploadStatus.UPLOADING
    assert await world.resend_missing(upload) == [1, 3]
    await world.settle(60)
    await world.assert_whole(upload)
    assert (await world.orphans()).none()


@pytest.mark.rule(8)
async def test_single_put_with_damaged_chunk_recovers(world: World) -> None:
    upload = await world.upload(pieces(600, 200))
    await world.deps.chunks.drop_upload(upload.id)
    await world.work()
    assert await world.status(upload) is UploadStatus.UPLOADING
    assert await world.resend_missing(upload) == [0, 1, 2]
    await world.settle(60)
    await world.assert_whole(upload)


async def plan_of(world: World, upload_id: str, number: int) -> PartPlan:
    """Return the plan of a part, read by a claim that is released."""
    claim = await world.deps.ledger.claim_part(upload_id, number, "planner", 15)
    assert claim is not None
    await world.deps.ledger.release_claim(claim)
    return claim.plan


# ------------------------------------------------------------------ the object store fails


@pytest.mark.rule(13)
async def test_unavailable_store_is_retried_until_it_is_back(world: World) -> None:
    world.objects.before = {
        "open_multipart": [UNAVAILABLE] * 3,
        "put_part": [UNAVAILABLE] * 5,
        "complete_multipart": [UNAVAILABLE] * 4,
    }
    upload = await world.upload(pieces(3_500, 500))
    await world.settle(300)
    await world.assert_whole(upload)
    assert world.outcomes()["retried"] == 8
    assert (await world.orphans()).none()


async def test_checksum_mismatch_of_store_is_retried_at_once(world: World) -> None:
    world.objects.after = {"put_part": [MISMATCH]}
    upload = await world.upload(pieces(2_000, 500))
    await world.work()
    assert world.outcomes() == {"stored": 2}
    assert world.objects.calls.count("put_part") == 3
    await world.settle(30)
    await world.assert_whole(upload)


async def test_repeated_checksum_mismatch_of_store_is_retried_later(world: World) -> None:
    world.objects.after = {"put_part": [MISMATCH] * 4}
    upload = await world.upload(pieces(2_000, 500))
    await world.settle(60)
    # The chunks were read and are intact, so none was rejected and sent again.
    assert world.outcomes() == {"stored": 2, "retried": 2}
    await world.assert_whole(upload)


@pytest.mark.rule(13)
@pytest.mark.parametrize(
    "error",
    [
        NotFound("BUCKET_NOT_FOUND", "There is no such bucket."),
        PermissionDenied("STORE_DENIED", "The store refuses."),
    ],
)
@pytest.mark.parametrize("call", ["check", "open_multipart", "put_part"])
async def test_permanent_store_error_fails_the_upload_with_reason(
    world: World, call: str, error: SluiceError
) -> None:
    world.objects.before = {call: [error]}
    upload = await world.upload(pieces(2_000, 500))
    await world.work()
    snapshot = await world.snapshot(upload)
    assert snapshot.status is UploadStatus.FAILED
    assert snapshot.failure_reason == error.reason
    await world.settle(30)
    assert (await world.orphans()).none()


async def test_lost_multipart_fails_the_upload(world: World) -> None:
    upload = await world.begin(pieces(2_000, 500))
    for number in range(2):
        await world.send(upload, number)
    await world.work()
    multipart_id = (await world.snapshot(upload)).multipart_id
    await world.objects.abort_multipart(upload.new.object, multipart_id)
    for number in range(2, 4):
        await world.send(upload, number)
    await world.work()
    assert (await world.snapshot(upload)).failure_reason == "MULTIPART_NOT_FOUND"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UNAVAILABLE, "STORE_UNAVAILABLE"),
        (TimeoutError(), "STORE_UNAVAILABLE"),
        (ResourceExhausted("DISK_FULL", "No space is left."), "DISK_FULL"),
    ],
)
async def test_completing_upload_fails_after_its_expiry(
    world: World, error: Exception, reason: str
) -> None:
    world.objects.before = {"put_part": [error] * 1_000}
    upload = await world.upload(pieces(2_000, 500))
    await world.settle(60)
    assert await world.status(upload) is UploadStatus.COMPLETING
    world.clock.advance(25 * HOUR)
    await world.settle(60)
    snapshot = await world.snapshot(upload)
    assert snapshot.status is UploadStatus.FAILED
    assert snapshot.failure_reason == reason
    assert (await world.orphans()).none()


async def test_worker_with_fast_clock_fails_no_upload(world: World) -> None:
    """Uploads expire by the ledger's clock."""
    world.deps = replace(world.deps, clock=lambda: world.clock() + 48 * HOUR)
    world.boot()
    world.objects.before = {"put_part": [UNAVAILABLE] * 3}
    upload = await world.upload(pieces(2_000, 500))
    await world.settle(60)
    await world.assert_whole(upload)


async def test_full_queue_does_not_block_the_workers(world: World) -> None:
    """The hint at the completion is left to the sweeper."""
    upload = await world.upload(pieces(600, 200))

    async def full(item: WorkItem) -> None:
        raise TimeoutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.deps.queue, "put", full)
        await world.work()
    assert world.outcomes() == {"stored": 1}
    assert await world.status(upload) is UploadStatus.COMPLETING
    await world.settle(20)
    await world.assert_whole(upload)


async def test_defect_delays_one_item_and_worker_survives(world: World) -> None:
    world.objects.before = {"put_part": [RuntimeError("a bug")]}
    upload = await world.upload(pieces(2_000, 500))
    await world.settle(30)
    await world.assert_whole(upload)
    assert world.outcomes()["error"] == 1
