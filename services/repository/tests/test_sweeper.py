"""Tests of the sweeper: hints, expiry, clean-up, intents and deletions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice_backends.memory.ledger import MemoryLedger
from sluice_backends.memory.queue import InProcessQueue
from sluice_core.errors import NotFound, PermissionDenied, Unavailable
from sluice_core.ledger.options import LedgerOptions
from sluice_core.objects.body import BytesBody
from sluice_core.ports import ChunkOffer, WorkItem, WorkKind
from sluice_core.ports.catalogue import ObjectIntent
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.ids import direct_multipart_id, new_node_id, new_token
from sluice_core.uploads.model import ObjectRef, UploadStatus
from sluice_repository.roles import sweeper
from sluice_repository.roles.gauges import GaugeRefresher
from sluice_repository.roles.sweeper import Sweeper
from support.roles import HOUR, TENANT, Upload, World, pieces

CHUNKS = pieces(3_300, 500)


async def half_uploaded(world: World, path: str = "a.bin") -> Upload:
    """Send four of seven chunks, store two parts, and send one more chunk that waits."""
    upload = await world.begin(CHUNKS, path=path)
    for number in range(4):
        await world.send(upload, number)
    await world.work()
    await world.send(upload, 5)
    return upload


# ------------------------------------------------------------------ lost hints (rule 15)


async def drain_queue(world: World) -> set[WorkItem]:
    """Take every hint out of the queue and return them."""
    items = set()
    while delivery := await world.deps.queue.take(frozenset(WorkKind), "tests", 0):
        await world.deps.queue.acknowledge(delivery)
        assert delivery.item not in items
        items.add(delivery.item)
    return items


@pytest.mark.rule(15)
async def test_sweep_reissues_hints_at_ready_unclaimed_work(
    world: World,
) -> None:
    upload = await world.upload(pieces(2_300, 500))
    parts = {WorkItem(WorkKind.PART, upload.id, TENANT, number) for number in (1, 2, 3)}
    assert await drain_queue(world) == parts  # and lost
    for _ in range(2):
        await world.sweeper.sweep()
        assert await drain_queue(world) == parts
    held = await world.deps.ledger.claim_part(upload.id, 2, "other", 15)
    assert held is not None
    await world.sweeper.sweep()
    assert {item.part_number for item in await drain_queue(world)} == {1, 3}
    await world.deps.ledger.release_claim(held)
    await world.sweeper.sweep()
    while await world.part_worker.work_one(0):
        pass
    completion = {WorkItem(WorkKind.COMPLETION, upload.id, TENANT)}
    assert await drain_queue(world) == completion
    await world.sweeper.sweep()
    assert await drain_queue(world) == completion


# ------------------------------------------------------------------ ended uploads (rules 24, 25)


@pytest.mark.rule(25)
async def test_sweep_after_abort_leaves_nothing(world: World) -> None:
    upload = await half_uploaded(world)
    await world.deps.ledger.abort(upload.id)
    await world.sweeper.sweep()
    assert (await world.orphans()).none()
    assert world.files() == []


@pytest.mark.rule(24)
async def test_idle_upload_expires_and_leaves_nothing(world: World) -> None:
    upload = await half_uploaded(world)
    world.clock.advance(23 * HOUR)
    await world.settle(100)
    assert await world.status(upload) is UploadStatus.UPLOADING
    world.clock.advance(HOUR)
    await world.settle(120)
    assert await world.status(upload) is UploadStatus.EXPIRED
    assert (await world.orphans()).none()
    assert world.files() == []
    assert world.publisher.types(upload.new.node_id) == ["UploadInitiated", "UploadExpired"]


@pytest.mark.rule(25)
async def test_late_objects_are_removed_an_hour_later(world: World) -> None:
    """A multipart and a single PUT were in flight when the upload was aborted and swept."""
    upload = await half_uploaded(world)
    await world.deps.ledger.abort(upload.id)
    await world.sweeper.sweep()
    ref = upload.new.object
    await world.objects.put(ref, BytesBody(b"late"), ObjectAttributes())
    await world.objects.open_multipart(ref, ObjectAttributes())
    await world.sweeper.sweep()
    assert world.files() != []
    world.clock.advance(HOUR)
    await world.sweeper.sweep()
    assert world.files() == []


@pytest.mark.rule(24)
async def test_ledger_purges_ended_uploads(world: World) -> None:
    gone = await half_uploaded(world)
    await world.deps.ledger.abort(gone.id)
    kept = await world.upload(CHUNKS, path="b.bin")
    await world.settle(HOUR + 60, step=60)
    world.clock.advance(24 * HOUR)
    await world.settle(30)
    for upload in (gone, kept):
        with pytest.raises(NotFound):
            await world.snapshot(upload)
    assert await world.stored_bytes(kept) == kept.content
    assert (await world.node(kept)).size == len(kept.content)


async def test_failed_clean_up_is_retried_by_a_later_sweep(world: World) -> None:
    first, second = await half_uploaded(world), await half_uploaded(world, path="b.bin")
    for upload in (first, second):
        await world.deps.ledger.abort(upload.id)
    world.objects.before = {"delete": [Unavailable("STORE_UNAVAILABLE", "Away.")]}
    await world.sweeper.sweep()
    due = await world.deps.ledger.cleanups_due(10)
    assert len(due) == 1, "one upload stays due, the other is cleaned up"
    await world.sweeper.sweep()
    assert (await world.orphans()).none()


async def test_failing_clean_up_does_not_hide_other_uploads(world: World) -> None:
    world.objects.before = {"delete": [PermissionDenied("STORE_DENIED", "No.")]}
    uploads = [await world.begin([b"x"], path=f"{n}.bin") for n in range(450)]
    for upload in uploads:
        await world.deps.ledger.abort(upload.id)
    await world.sweeper.sweep()
    assert len(await world.deps.ledger.cleanups_due(1_000)) == 1


async def test_missing_bucket_needs_no_clean_up(world: World) -> None:
    upload = await world.begin(CHUNKS, object=ObjectRef("elsewhere", "k"))
    await world.deps.ledger.abort(upload.id)
    await world.sweeper.sweep()
    assert await world.deps.ledger.cleanups_due(10) == []


@pytest.mark.rule(26)
async def test_object_of_live_node_is_never_deleted(world: World) -> None:
    """Not even when the ledger says that its upload failed."""
    upload = await world.upload(CHUNKS)
    await world.settle(10)
    snapshot = await world.snapshot(upload)
    await world.sweeper._cleaner.clean_ended_upload(replace(snapshot, status=UploadStatus.FAILED))
    await world.assert_whole(upload)


async def test_concurrent_sweepers_are_harmless(world: World) -> None:
    aborted = await half_uploaded(world)
    await world.deps.ledger.abort(aborted.id)
    live = await half_uploaded(world, path="live.bin")
    done = await world.upload(CHUNKS, path="done.bin")
    other = Sweeper(world.deps)
    for _ in range(5):
        await world.sweeper.sweep()
        await other.sweep()
        await world.work()
        world.clock.advance(10)
    while await world.relay.relay_once():
        pass
    await world.assert_whole(done)
    assert await world.status(live) is UploadStatus.UPLOADING
    for number in (4, 6):
        await world.send(live, number)
    await world.complete(live)
    await world.settle(30)
    await world.assert_whole(live)
    assert (await world.orphans()).none()


# ------------------------------------------------------------------ unreferenced chunks


async def staged(world: World, upload_id: str) -> str:
    """Stage bytes whose sender dies before the ledger accepts them; return their token."""
    token = new_token()
    async with world.deps.chunks.stage(ChunkOffer(upload_id, 0, 0, token)) as area:
        await area.append(b"abandoned")
        await area.seal()
    return token


async def test_unreferenced_staged_bytes_are_dropped_after_10_minutes(world: World) -> None:
    upload = await half_uploaded(world)
    await staged(world, upload.id)
    await staged(world, "unknown-upload")
    world.clock.advance(590)
    await world.sweeper.sweep()
    assert sum(len(t) for _, t in await world.deps.chunks.leftovers(-1, 100)) == 3
    world.clock.advance(20)
    await world.sweeper.sweep()
    left = await world.deps.chunks.leftovers(-1, 100)
    assert [(u, len(t)) for u, t in left] == [(upload.id, 1)], "the accepted chunk stays"


async def test_staged_bytes_with_a_reservation_are_kept(
    world: World,
) -> None:
    upload = await world.begin([b"x" * 100])
    offer = ChunkOffer(upload.id, 0, 100, new_token())
    async with world.deps.chunks.stage(offer) as area:
        await area.append(b"x" * 100)
        await area.seal()
    world.clock.advance(700)
    # The reservation is younger than the bytes: the sender retried.
    assert (await world.deps.ledger.admit_chunk(offer)).granted
    await world.sweeper.sweep()
    assert sum(len(t) for _, t in await world.deps.chunks.leftovers(-1, 100)) == 1


# ------------------------------------------------------------------ intents (rule 13)


@pytest.mark.rule(13, 28)
async def test_intents_find_leftovers_of_a_lost_ledger(world: World) -> None:
    """The ledger was emptied; only the catalogue has a record of the uploads."""
    multipart = await half_uploaded(world)
    single = await world.begin([b"small"], path="b.bin")
    await world.send(single, 0)
    await world.complete(single)
    while await world.part_worker.work_one(0):
        pass
    world.deps = replace(world.deps, ledger=MemoryLedger(LedgerOptions(), world.clock))
    world.boot()
    assert world.files() != []
    world.clock.advance(HOUR + 1)
    await world.sweeper.sweep()
    assert world.files() == []
    assert await world.catalogue.stale_intents(world.clock.now, 10) == []
    assert await world.objects.head(multipart.new.object) is None


@pytest.mark.rule(13)
async def test_multipart_of_a_photo_is_left_to_the_gateway(world: World) -> None:
    """No ledger knows it; its photo may still be under way."""
    node_id = new_node_id()
    ref = ObjectRef("sluice", f"{TENANT}/photos/{node_id}")
    multipart_id = await world.objects.open_multipart(ref, ObjectAttributes())
    upload_id = direct_multipart_id(node_id, 1)
    intent = ObjectIntent(upload_id, TENANT, ref, multipart_id, world.clock.now)
    await world.catalogue.record_intent(intent)
    world.clock.advance(3 * HOUR)
    await world.sweeper.sweep()
    assert list(await world.objects.open_multiparts(ref)) == [multipart_id]
    assert len(await world.catalogue.stale_intents(world.clock.now, 10)) == 1


@pytest.mark.rule(13)
async def test_old_intent_of_live_upload_is_kept(world: World) -> None:
    upload = await half_uploaded(world)
    world.clock.advance(3 * HOUR)
    await world.sweeper.sweep()
    assert len(await world.catalogue.stale_intents(world.clock.now, 10)) == 1
    for number in (4, 6):
        await world.send(upload, number)
    await world.complete(upload)
    await world.settle(30)
    await world.assert_whole(upload)
    assert (await world.orphans()).none()


async def test_intent_written_after_clean_up_is_removed(world: World) -> None:
    upload = await half_uploaded(world)
    await world.deps.ledger.abort(upload.id)
    await world.sweeper.sweep()
    await world.catalogue.record_intent(
        ObjectIntent(upload.id, TENANT, upload.new.object, "", world.clock.now)
    )
    world.clock.advance(HOUR + 1)
    await world.sweeper.sweep()
    assert (await world.orphans()).none()


# ------------------------------------------------------------------ deletions (rule 26)


@pytest.mark.rule(26)
async def test_object_of_deleted_node_outlives_its_download_urls(
    world: World,
) -> None:
    upload = await world.upload(CHUNKS)
    await world.settle(10)
    await world.catalogue.delete_node(TENANT, upload.new.node_id)
    await world.sweeper.sweep()
    assert await world.objects.head(upload.new.object) is not None
    world.clock.advance(8 * 24 * HOUR)
    await world.sweeper.sweep()
    assert world.files() == []
    assert await world.catalogue.deletions_due(world.clock.now, 10) == []


# ------------------------------------------------------------------ the sweeper itself


async def test_failing_sweep_kind_does_not_stop_the_others(world: World) -> None:
    upload = await half_uploaded(world)
    await world.deps.ledger.abort(upload.id)

    async def broken(limit: int) -> list[object]:
        raise RuntimeError("a bug")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.deps.ledger, "ready_work", broken)
        await world.sweeper.sweep()
    assert (await world.orphans()).none()
    assert world.counted("sluice_role_errors_total", role="sweeper") == 1
    assert world.counted("sluice_sweeps_total", kind="cleaned") == 1


async def test_gauges_report_backlog_and_queue_depth(world: World) -> None:
    await half_uploaded(world)
    await world.upload(CHUNKS, path="b.bin")
    await GaugeRefresher(world.deps).refresh()
    assert world.counted("sluice_open_uploads") == 2
    assert world.counted("sluice_queued_bytes") == 500 + 3_300
    assert world.counted("sluice_queue_items") == 4
    assert world.counted("sluice_budget_bytes") == LedgerOptions().budget_bytes


@pytest.mark.rule(15)
async def test_failing_ready_work_does_not_starve_others_of_hints(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hints are lost and no work is done: successive passes still hint at every item."""
    monkeypatch.setattr(sweeper, "_HINTS_PER_PASS", 2)
    ready = set()
    for number in range(5):
        upload = await world.begin([b"small"], path=f"{number}.bin")
        await world.send(upload, 0)
        await world.complete(upload)
        ready.add(upload.id)
    queue = InProcessQueue(clock=world.clock)
    sweeping = Sweeper(replace(world.deps, queue=queue))
    for _ in range(3):
        await sweeping.sweep()
    hinted = set()
    while delivery := await queue.take(frozenset(WorkKind), "test", 0):
        hinted.add(delivery.item.upload_id)
    assert hinted == ready
