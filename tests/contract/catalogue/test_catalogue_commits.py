"""Rule 19: commits of nodes and superseded nodes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from sluice.events.v1 import nodes_pb2, uploads_pb2
from sluice_core.errors import Aborted, AlreadyExists, NotFound
from sluice_core.ports.catalogue import (
    MAX_DOWNLOAD_URL_SECONDS,
    Catalogue,
    CommitOutcome,
    ObjectIntent,
)
from sluice_core.ports.event_publisher import NODES_TOPIC, UPLOADS_TOPIC, EventRecord
from support.commits import DRIVE, TENANT, finished_upload, initiated_event, intent_of

LATER = 2 * MAX_DOWNLOAD_URL_SECONDS


async def events(catalogue: Catalogue) -> list[EventRecord]:
    return [row.event for row in await catalogue.outbox(1000)]


async def doomed_keys(catalogue: Catalogue) -> list[str]:
    due = await catalogue.deletions_due(time.time() + LATER, 1000)
    return sorted(deletion.object.key for deletion in due)


async def test_a_committed_upload_is_a_node(catalogue: Catalogue) -> None:
    commit = finished_upload("a/b.txt", sha256=b"\x01" * 32, metadata={"color": "blå", "q": '"'})
    assert await catalogue.commit_node(commit) == CommitOutcome(created=True)
    node = await catalogue.get_node(TENANT, commit.node_id)
    assert node == await catalogue.find_node(TENANT, DRIVE, "a/b.txt")
    assert (node.size, node.crc32c, node.sha256) == (5, commit.crc32c, b"\x01" * 32)
    assert (node.metadata, node.object, node.version) == (commit.metadata, commit.object, 1)
    assert node.created_at == node.updated_at == pytest.approx(time.time(), abs=60)


@pytest.mark.rule(20, 22)
async def test_commit_adds_upload_completed_to_the_outbox(catalogue: Catalogue) -> None:
    commit = finished_upload("a", metadata={"k": "v"})
    await catalogue.commit_node(commit)
    (record,) = await events(catalogue)
    assert (record.topic, record.key, record.tenant) == (UPLOADS_TOPIC, commit.node_id, TENANT)
    assert record.type == "sluice.events.v1.UploadCompleted"
    event = uploads_pb2.UploadCompleted.FromString(record.payload)
    assert event.header.event_id == record.event_id
    assert (event.crc32c, event.size, dict(event.metadata)) == (commit.crc32c, 5, {"k": "v"})
    assert not event.HasField("sha256")
    assert (event.bucket, event.object_key) == (commit.object.bucket, commit.object.key)


@pytest.mark.rule(20)
async def test_upload_completed_carries_a_known_sha256(catalogue: Catalogue) -> None:
    commit = finished_upload("a", sha256=b"\x01" * 32)
    await catalogue.commit_node(commit)
    (record,) = await events(catalogue)
    event = uploads_pb2.UploadCompleted.FromString(record.payload)
    assert (event.sha256, event.crc32c) == (b"\x01" * 32, commit.crc32c)


@pytest.mark.rule(19)
async def test_ledger_events_precede_upload_completed(catalogue: Catalogue) -> None:
    node_id = "0190-node"
    initiated = initiated_event(finished_upload("a", node_id=node_id))
    await catalogue.commit_node(finished_upload("a", node_id=node_id, ledger_events=[initiated]))
    first, second = await events(catalogue)
    assert first.event_id == initiated.event_id
    assert first.payload == initiated.payload
    assert first.type == "sluice.events.v1.UploadInitiated"
    assert second.type == "sluice.events.v1.UploadCompleted"


@pytest.mark.rule(19)
async def test_a_replayed_commit_changes_nothing(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    before = await catalogue.get_node(TENANT, commit.node_id), await events(catalogue)
    assert await catalogue.commit_node(commit) == CommitOutcome(created=False)
    assert (await catalogue.get_node(TENANT, commit.node_id), await events(catalogue)) == before
    assert await doomed_keys(catalogue) == []


async def test_a_replay_under_if_absent_does_not_find_itself(catalogue: Catalogue) -> None:
    commit = finished_upload("a", if_absent=True)
    await catalogue.commit_node(commit)
    assert await catalogue.commit_node(commit) == CommitOutcome(created=False)


@pytest.mark.rule(19)
async def test_the_later_commit_takes_the_path(catalogue: Catalogue) -> None:
    old, new = finished_upload("a"), finished_upload("a", content=b"other")
    await catalogue.commit_node(old)
    outcome = await catalogue.commit_node(new)
    assert outcome == CommitOutcome(created=True, superseded_node_id=old.node_id)
    assert (await catalogue.find_node(TENANT, DRIVE, "a")).node_id == new.node_id
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await catalogue.get_node(TENANT, old.node_id)


async def test_node_deleted_of_a_superseded_node_has_its_key(catalogue: Catalogue) -> None:
    old, new = finished_upload("a"), finished_upload("a")
    await catalogue.commit_node(old)
    await catalogue.commit_node(new)
    _, completed, deleted = await events(catalogue)
    assert uploads_pb2.UploadCompleted.FromString(completed.payload).superseded_node_id == (
        old.node_id
    )
    assert (deleted.topic, deleted.key) == (NODES_TOPIC, old.node_id)
    event = nodes_pb2.NodeDeleted.FromString(deleted.payload)
    assert (event.node_id, event.path, event.reason) == (old.node_id, "a", "SUPERSEDED")


@pytest.mark.rule(19, 26)
async def test_the_superseded_object_outlives_its_download_urls(catalogue: Catalogue) -> None:
    old = finished_upload("a")
    await catalogue.commit_node(old)
    began = time.time()
    await catalogue.commit_node(finished_upload("a"))
    ended = time.time()
    assert not await catalogue.deletions_due(began + MAX_DOWNLOAD_URL_SECONDS - 1, 10)
    (deletion,) = await catalogue.deletions_due(ended + MAX_DOWNLOAD_URL_SECONDS + 1, 10)
    assert deletion.object == old.object
    await catalogue.deletion_done(deletion.deletion_id)
    assert not await catalogue.deletions_due(ended + LATER, 10)


@pytest.mark.rule(19)
async def test_if_absent_is_checked_at_the_commit(catalogue: Catalogue) -> None:
    first, second = finished_upload("a"), finished_upload("a", if_absent=True)
    await catalogue.commit_node(first)
    with pytest.raises(AlreadyExists, match="PATH_EXISTS"):
        await catalogue.commit_node(second)
    assert (await catalogue.find_node(TENANT, DRIVE, "a")).node_id == first.node_id
    assert len(await events(catalogue)) == 1
    assert await doomed_keys(catalogue) == []


async def test_rejected_commit_succeeds_once_the_path_is_free(catalogue: Catalogue) -> None:
    first, second = finished_upload("a"), finished_upload("a", if_absent=True)
    await catalogue.commit_node(first)
    with pytest.raises(AlreadyExists):
        await catalogue.commit_node(second)
    await catalogue.delete_node(TENANT, first.node_id)
    assert (await catalogue.commit_node(second)).created


@pytest.mark.rule(19)
async def test_concurrent_commits_to_one_path_leave_one_live_node(catalogue: Catalogue) -> None:
    commits = [finished_upload("a", content=bytes([n])) for n in range(20)]
    outcomes = await asyncio.gather(*(catalogue.commit_node(commit) for commit in commits))
    winner = await catalogue.find_node(TENANT, DRIVE, "a")
    losers = [commit for commit in commits if commit.node_id != winner.node_id]
    assert {outcome.superseded_node_id for outcome in outcomes} == {
        "",
        *(loser.node_id for loser in losers),
    }
    assert await doomed_keys(catalogue) == sorted(loser.object.key for loser in losers)
    page = await catalogue.list_nodes(TENANT, DRIVE, "", 100, "")
    assert [node.node_id for node in page.nodes] == [winner.node_id]


@pytest.mark.rule(19)
async def test_one_of_concurrent_if_absent_commits_wins(catalogue: Catalogue) -> None:
    commits = [finished_upload("a", if_absent=True) for _ in range(10)]
    outcomes = await asyncio.gather(
        *(catalogue.commit_node(commit) for commit in commits), return_exceptions=True
    )
    assert sum(isinstance(outcome, CommitOutcome) for outcome in outcomes) == 1
    refused = [outcome for outcome in outcomes if isinstance(outcome, AlreadyExists)]
    assert [error.reason for error in refused] == ["PATH_EXISTS"] * 9
    assert len(await events(catalogue)) == 1


@pytest.mark.rule(19)
async def test_concurrent_replays_of_one_commit_make_one_node(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    outcomes = await asyncio.gather(*(catalogue.commit_node(commit) for _ in range(8)))
    assert sum(outcome.created for outcome in outcomes) == 1
    assert len(await events(catalogue)) == 1


@pytest.mark.rule(19)
async def test_a_deleted_node_is_not_resurrected_by_a_late_completer(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    await catalogue.delete_node(TENANT, commit.node_id)
    assert await catalogue.commit_node(commit) == CommitOutcome(created=False)
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await catalogue.find_node(TENANT, DRIVE, "a")


@pytest.mark.rule(19)
async def test_a_superseded_node_does_not_take_its_path_back(catalogue: Catalogue) -> None:
    old, new = finished_upload("a"), finished_upload("a")
    await catalogue.commit_node(old)
    await catalogue.commit_node(new)
    assert await catalogue.commit_node(old) == CommitOutcome(created=False)
    assert (await catalogue.find_node(TENANT, DRIVE, "a")).node_id == new.node_id
    assert await doomed_keys(catalogue) == [old.object.key]


async def test_commit_to_an_unknown_drive_changes_nothing(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
        await catalogue.commit_node(finished_upload("a", drive="nowhere"))
    assert await events(catalogue) == []


async def test_the_commit_clears_the_uploads_intent(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.record_intent(
        ObjectIntent(commit.upload_id, TENANT, commit.object, "m-1", time.time())
    )
    await catalogue.commit_node(commit)
    assert not await catalogue.stale_intents(time.time() + 1, 10)


async def test_intent_of_a_late_worker_survives_a_tombstone_replay(
    catalogue: Catalogue,
) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    await catalogue.delete_node(TENANT, commit.node_id)
    intent = ObjectIntent(commit.upload_id, TENANT, commit.object, "", 1_000.0)
    await catalogue.record_intent(intent)
    await catalogue.commit_node(commit)
    assert list(await catalogue.stale_intents(time.time(), 10)) == [intent]


@pytest.mark.rule(25)
async def test_commit_after_its_intent_was_cleared_is_rejected(catalogue: Catalogue) -> None:
    """The upload has ended and its clean-up has begun to delete the object."""
    late, other = finished_upload("a"), finished_upload("b")
    for commit in (late, other):
        await catalogue.record_intent(intent_of(commit))
    await catalogue.clear_intent(late.upload_id, late.object)
    with pytest.raises(Aborted, match="FENCED"):
        await catalogue.commit_node(late)
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await catalogue.find_node(TENANT, DRIVE, "a")
    assert await events(catalogue) == []
    await catalogue.commit_node(other)
    assert await catalogue.is_object_live(other.object)


@pytest.mark.rule(25)
async def test_intent_after_the_clean_up_admits_no_commit(
    catalogue: Catalogue,
) -> None:
    """A late worker records the intent again; it is swept, and the commit stays rejected."""
    late = finished_upload("a")
    await catalogue.record_intent(intent_of(late))
    await catalogue.clear_intent(late.upload_id)
    await catalogue.record_intent(intent_of(late))
    with pytest.raises(Aborted, match="FENCED"):
        await catalogue.commit_node(late)
    assert not await catalogue.is_object_live(late.object)
    assert list(await catalogue.stale_intents(time.time(), 10)) == [intent_of(late)]


@pytest.mark.rule(13, 26)
async def test_an_abandoned_intent_leaves_a_deletion_and_no_commit(catalogue: Catalogue) -> None:
    late = finished_upload("a")
    await catalogue.record_intent(intent_of(late))
    await catalogue.abandon_intent(intent_of(late))
    assert await catalogue.stale_intents(time.time(), 10) == []
    due = await catalogue.deletions_due(await catalogue.now(), 10)
    assert [deletion.object for deletion in due] == [late.object]
    with pytest.raises(Aborted, match="FENCED"):
        await catalogue.commit_node(late)


async def test_an_abandoned_intent_of_a_live_node_deletes_nothing(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    await catalogue.record_intent(intent_of(commit))
    await catalogue.abandon_intent(intent_of(commit))
    assert await catalogue.deletions_due(await catalogue.now() + 1, 10) == []
    assert not (await catalogue.commit_node(commit)).created


@pytest.mark.rule(13)
async def test_uploads_with_a_reused_id_have_separate_intents(catalogue: Catalogue) -> None:
    """A reused request id gives the second upload the id of the first."""
    first, second = finished_upload("a"), finished_upload("b")
    second = replace(second, upload_id=first.upload_id)
    earlier = intent_of(first)
    later = replace(intent_of(second), created_at=earlier.created_at + 1)
    await catalogue.record_intent(earlier)
    await catalogue.record_intent(later)
    await catalogue.record_intent(replace(later, multipart_id="m-2"))
    found = await catalogue.stale_intents(time.time(), 10)
    assert list(found) == [earlier, replace(later, multipart_id="m-2")]
    await catalogue.clear_intent(first.upload_id, first.object)
    assert (await catalogue.commit_node(second)).created
    assert await catalogue.stale_intents(time.time(), 10) == []


async def test_cleared_intents_are_purged_by_age(catalogue: Catalogue) -> None:
    commits = [finished_upload(str(number)) for number in range(3)]
    for commit in commits:
        await catalogue.record_intent(intent_of(commit))
        await catalogue.clear_intent(commit.upload_id, commit.object)
    now = await catalogue.now()
    assert await catalogue.purge_cleared_intents(now - 60, 10) == 0
    assert await catalogue.purge_cleared_intents(now + 60, 2) == 2
    assert await catalogue.purge_cleared_intents(now + 60, 2) == 1


async def test_uploads_with_a_reused_id_have_distinct_event_ids(
    catalogue: Catalogue,
) -> None:
    first, second = finished_upload("a"), finished_upload("b")
    second = replace(second, upload_id=first.upload_id)
    await catalogue.commit_node(replace(first, ledger_events=(initiated_event(first),)))
    await catalogue.commit_node(replace(second, ledger_events=(initiated_event(second),)))
    records = await events(catalogue)
    assert len(records) == 4
    assert len({record.event_id for record in records}) == 4


async def test_delete_frees_the_path_and_adds_node_deleted(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    await catalogue.delete_node(TENANT, commit.node_id)
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await catalogue.get_node(TENANT, commit.node_id)
    _, record = await events(catalogue)
    assert nodes_pb2.NodeDeleted.FromString(record.payload).reason == "DELETED"
    assert await doomed_keys(catalogue) == [commit.object.key]
    assert not await catalogue.is_object_live(commit.object)


async def test_repeated_delete_is_a_no_op(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    await asyncio.gather(*(catalogue.delete_node(TENANT, commit.node_id) for _ in range(5)))
    assert len(await events(catalogue)) == 2
    assert await doomed_keys(catalogue) == [commit.object.key]


async def test_deleting_a_superseded_node_keeps_the_new_one(catalogue: Catalogue) -> None:
    old, new = finished_upload("a"), finished_upload("a")
    await catalogue.commit_node(old)
    await catalogue.commit_node(new)
    await catalogue.delete_node(TENANT, old.node_id)
    assert (await catalogue.find_node(TENANT, DRIVE, "a")).node_id == new.node_id


async def test_unknown_and_foreign_nodes_cannot_be_deleted(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    for tenant, node_id in ((TENANT, "unknown"), ("rival", commit.node_id)):
        with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
            await catalogue.delete_node(tenant, node_id)
    assert (await catalogue.get_node(TENANT, commit.node_id)).version == 1
