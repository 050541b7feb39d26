"""Intents, deletions, outbox and leases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sluice_core.ports.catalogue import Catalogue, ObjectIntent
from sluice_core.ports.outbox import OutboxPage
from sluice_core.uploads.model import ObjectRef
from support.commits import BUCKET, TENANT, finished_upload

REF = ObjectRef(BUCKET, "acme/photos/1")
FAR = 1e10


def intent(upload_id: str, multipart_id: str = "", created_at: float = 100.0) -> ObjectIntent:
    return ObjectIntent(upload_id, TENANT, REF, multipart_id, created_at)


async def test_the_catalogue_answers(catalogue: Catalogue) -> None:
    await catalogue.ping()


async def test_intent_records_its_multipart_id(catalogue: Catalogue) -> None:
    await catalogue.record_intent(intent("u"))
    await catalogue.record_intent(intent("u", "m-1", created_at=200.0))
    assert list(await catalogue.stale_intents(FAR, 10)) == [intent("u", "m-1")]


async def test_repeated_intent_keeps_its_multipart_id(catalogue: Catalogue) -> None:
    await catalogue.record_intent(intent("u", "m-1"))
    await catalogue.record_intent(intent("u"))
    assert list(await catalogue.stale_intents(FAR, 10)) == [intent("u", "m-1")]


async def test_stale_intents_come_oldest_first(catalogue: Catalogue) -> None:
    for upload_id, created_at in (("b", 20.0), ("a", 30.0), ("c", 10.0)):
        await catalogue.record_intent(intent(upload_id, created_at=created_at))
    found = await catalogue.stale_intents(30.0, 10)
    assert [one.upload_id for one in found] == ["c", "b"]
    assert [one.upload_id for one in await catalogue.stale_intents(FAR, 1)] == ["c"]


async def test_clearing_an_intent_is_idempotent(catalogue: Catalogue) -> None:
    await catalogue.record_intent(intent("u"))
    await catalogue.clear_intent("u")
    await catalogue.clear_intent("u")
    assert not await catalogue.stale_intents(FAR, 10)


async def test_object_is_live_as_long_as_its_node(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    assert not await catalogue.is_object_live(commit.object)
    await catalogue.commit_node(commit)
    assert await catalogue.is_object_live(commit.object)
    assert not await catalogue.is_object_live(ObjectRef("other", commit.object.key))
    await catalogue.commit_node(finished_upload("a"))
    assert not await catalogue.is_object_live(commit.object)


@pytest.mark.rule(26)
async def test_object_of_a_live_node_is_never_due_for_deletion(catalogue: Catalogue) -> None:
    first, second = finished_upload("a"), finished_upload("b")
    shared = first.object
    for path, node_id in (("a", first.node_id), ("b", second.node_id)):
        commit = finished_upload(path, node_id=node_id)
        await catalogue.commit_node(replace(commit, object=shared))
    await catalogue.delete_node(TENANT, first.node_id)
    assert not await catalogue.deletions_due(FAR, 10)
    await catalogue.delete_node(TENANT, second.node_id)
    (deletion,) = await catalogue.deletions_due(FAR, 10)
    assert deletion.object == shared


@pytest.mark.rule(26)
async def test_due_deletion_waits_while_a_node_names_its_object(catalogue: Catalogue) -> None:
    gone = finished_upload("a")
    await catalogue.commit_node(gone)
    await catalogue.delete_node(TENANT, gone.node_id)
    namer = replace(finished_upload("b"), object=gone.object)
    await catalogue.commit_node(namer)
    assert not await catalogue.deletions_due(FAR, 10)


@pytest.mark.rule(22)
async def test_the_outbox_keeps_the_order_and_drops_what_is_published(
    catalogue: Catalogue,
) -> None:
    commits = [finished_upload(f"p{n}") for n in range(5)]
    for commit in commits:
        await catalogue.commit_node(commit)
    rows = await catalogue.outbox(3)
    assert [row.event.key for row in rows] == [commit.node_id for commit in commits[:3]]
    # Published out of order: the remaining rows are still returned.
    await catalogue.outbox_published([rows[2].row_id, rows[0].row_id])
    left = await catalogue.outbox(10)
    assert [row.event.key for row in left] == [commits[n].node_id for n in (1, 3, 4)]


@pytest.mark.rule(22)
async def test_late_publication_record_removes_no_newer_row(catalogue: Catalogue) -> None:
    await catalogue.commit_node(finished_upload("a"))
    published = [row.row_id for row in await catalogue.outbox(10)]
    await catalogue.outbox_published(published)
    await catalogue.commit_node(finished_upload("b"))
    await catalogue.outbox_published(published)
    await catalogue.outbox_published([])
    assert len(await catalogue.outbox(10)) == 1


async def test_late_deletion_record_removes_no_newer_row(catalogue: Catalogue) -> None:
    first, second = finished_upload("a"), finished_upload("b")
    for commit in (first, second):
        await catalogue.commit_node(commit)
    await catalogue.delete_node(TENANT, first.node_id)
    (done,) = await catalogue.deletions_due(FAR, 10)
    await catalogue.deletion_done(done.deletion_id)
    await catalogue.delete_node(TENANT, second.node_id)
    await catalogue.deletion_done(done.deletion_id)
    (left,) = await catalogue.deletions_due(FAR, 10)
    assert left.object == second.object


async def test_a_lease_has_one_holder_who_may_extend_it(catalogue: Catalogue) -> None:
    assert await catalogue.hold_lease("relay", "a", 60)
    assert not await catalogue.hold_lease("relay", "b", 60)
    assert await catalogue.hold_lease("relay", "a", 60)
    assert await catalogue.hold_lease("sweeper", "b", 60)


async def test_expired_lease_is_taken_over(catalogue: Catalogue) -> None:
    assert await catalogue.hold_lease("relay", "a", 0.05)
    await asyncio.sleep(0.1)
    assert await catalogue.hold_lease("relay", "b", 60)
    assert not await catalogue.hold_lease("relay", "a", 60)


async def test_only_the_holder_releases_a_lease(catalogue: Catalogue) -> None:
    assert await catalogue.hold_lease("relay", "a", 60)
    await catalogue.release_lease("relay", "b")
    assert not await catalogue.hold_lease("relay", "b", 60)
    await catalogue.release_lease("relay", "a")
    assert await catalogue.hold_lease("relay", "b", 60)


async def test_one_of_many_holders_acquires_a_lease(catalogue: Catalogue) -> None:
    answers = await asyncio.gather(
        *(catalogue.hold_lease("relay", f"holder-{n}", 60) for n in range(10))
    )
    assert sum(answers) == 1


@pytest.mark.rule(22)
async def test_withheld_rows_are_excluded_from_ready_pages(catalogue: Catalogue) -> None:
    stuck, other = finished_upload("a"), finished_upload("b")
    for commit in (stuck, other):
        await catalogue.commit_node(commit)
    first, second = await catalogue.outbox(10)
    await catalogue.withhold([first.row_id])
    assert await catalogue.outbox_ready(10) == OutboxPage((second,), frozenset())
    assert await catalogue.outbox(10) == [first, second]
    assert await catalogue.count_withheld() == 1

    await catalogue.delete_node(TENANT, stuck.node_id)
    page = await catalogue.outbox_ready(10)
    assert [row.event.key for row in page.rows] == [other.node_id, stuck.node_id]
    assert page.withheld_keys == {stuck.node_id}
    await catalogue.withhold([page.rows[1].row_id])
    assert await catalogue.withheld_of([stuck.node_id], 10) == [first, page.rows[1]]
    assert await catalogue.withheld_of([stuck.node_id], 1) == [first]
    assert await catalogue.withheld_of([other.node_id], 10) == []
    ids = [first.row_id, page.rows[1].row_id]
    assert await catalogue.withheld_after(0, 10) == [(one, stuck.node_id) for one in ids]
    assert await catalogue.withheld_after(ids[0], 1) == [(ids[1], stuck.node_id)]
    await catalogue.outbox_published(ids)
    assert await catalogue.count_withheld() == 0


async def test_due_lists_start_at_the_offset(catalogue: Catalogue) -> None:
    commits = [finished_upload(str(number)) for number in range(4)]
    for number, commit in enumerate(commits):
        await catalogue.commit_node(commit)
        await catalogue.record_intent(intent(f"u{number}", created_at=10.0 + number))
    stale = await catalogue.stale_intents(FAR, 10)
    assert await catalogue.stale_intents(FAR, 2, 1) == stale[1:3]
    owed = await catalogue.nodes_without_sha256(10)
    assert len(owed) == len(commits)
    assert await catalogue.nodes_without_sha256(2, 3) == owed[3:]
    for commit in commits:
        await catalogue.delete_node(TENANT, commit.node_id)
    due = await catalogue.deletions_due(FAR, 10)
    assert len(due) == len(commits)
    assert await catalogue.deletions_due(FAR, 2, 1) == due[1:3]
    assert await catalogue.deletions_due(FAR, 2, 4) == []
