"""Adoption of objects without an upload as nodes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sluice_core.errors import NotFound
from sluice_core.ports.catalogue import Catalogue, CommitOutcome, DrivePolicy, ObjectIntent
from sluice_core.uploads.ids import direct_multipart_id, direct_upload_id
from support.commits import BUCKET, DRIVE, TENANT, finished_upload


@pytest.mark.rule(19)
async def test_object_is_adopted_once_by_any_finder(catalogue: Catalogue) -> None:
    commit = finished_upload("a.jpg")
    commit = replace(commit, upload_id=direct_upload_id(commit.node_id))
    outcomes = await asyncio.gather(*(catalogue.adopt_object(commit) for _ in range(5)))
    assert sorted(outcome.created for outcome in outcomes if outcome) == [False] * 4 + [True]
    assert (await catalogue.get_node(TENANT, commit.node_id)).path == "a.jpg"
    assert [row.event.key for row in await catalogue.outbox(10)] == [commit.node_id]


async def test_adopted_node_supersedes_the_node_on_its_path(catalogue: Catalogue) -> None:
    before, commit = finished_upload("a.jpg"), finished_upload("a.jpg")
    await catalogue.commit_node(before)
    outcome = await catalogue.adopt_object(commit)
    assert outcome == CommitOutcome(created=True, superseded_node_id=before.node_id)


@pytest.mark.rule(13)
async def test_object_of_an_open_intent_is_not_adopted(catalogue: Catalogue) -> None:
    commit = finished_upload("a.jpg")
    intent = ObjectIntent(commit.upload_id, TENANT, commit.object, "", 1.0)
    await catalogue.record_intent(intent)
    found = replace(commit, path="found", upload_id=direct_upload_id(commit.node_id))
    assert await catalogue.adopt_object(found) is None
    with pytest.raises(NotFound):
        await catalogue.get_node(TENANT, commit.node_id)
    assert list(await catalogue.outbox(10)) == []
    # Another object has no intent.
    elsewhere = replace(finished_upload("b"), object=replace(commit.object, bucket="elsewhere"))
    assert await catalogue.adopt_object(elsewhere) is not None
    # The upload's transaction commits the node and clears the intent.
    assert await catalogue.commit_node(commit) == CommitOutcome(created=True)
    assert await catalogue.adopt_object(found) == CommitOutcome(created=False)
    assert (await catalogue.get_node(TENANT, commit.node_id)).path == "a.jpg"


@pytest.mark.rule(13)
async def test_adoption_keeps_intents_of_multiparts(catalogue: Catalogue) -> None:
    """They do not hinder it: a multipart through signed URLs is no upload.

    They stay, because multiparts of former attempts may be open, which the sweeper aborts.
    """
    commit, other = finished_upload("a.jpg"), finished_upload("b.jpg")
    for attempt in (1, 2):
        for each in (commit, other):
            upload_id = direct_multipart_id(each.node_id, attempt)
            await catalogue.record_intent(ObjectIntent(upload_id, TENANT, each.object, "m", 1.0))
    found = replace(commit, upload_id=direct_upload_id(commit.node_id))
    assert await catalogue.adopt_object(found) == CommitOutcome(created=True)
    stale = await catalogue.stale_intents(2.0, 10)
    assert [intent.object for intent in stale].count(commit.object) == 2
    assert await catalogue.adopt_object(found) == CommitOutcome(created=False)
    # That of an upload still has precedence.
    upload = ObjectIntent(other.upload_id, TENANT, other.object, "", 1.0)
    await catalogue.record_intent(upload)
    direct = replace(other, upload_id=direct_upload_id(other.node_id))
    assert await catalogue.adopt_object(direct) is None


@pytest.mark.rule(13, 19)
async def test_commit_concurrent_with_adoption_keeps_the_uploads_node(catalogue: Catalogue) -> None:
    for number in range(10):
        commit = finished_upload(f"{number}.jpg")
        await catalogue.record_intent(
            ObjectIntent(commit.upload_id, TENANT, commit.object, "", 1.0)
        )
        found = replace(commit, path="found", upload_id=direct_upload_id(commit.node_id))
        await asyncio.gather(
            catalogue.adopt_object(found),
            catalogue.commit_node(commit),
            catalogue.adopt_object(found),
        )
        assert (await catalogue.get_node(TENANT, commit.node_id)).path == f"{number}.jpg"
    assert len(await catalogue.outbox(100)) == 10


async def test_deleted_node_is_not_adopted_again(catalogue: Catalogue) -> None:
    commit = finished_upload("a.jpg")
    await catalogue.adopt_object(commit)
    await catalogue.delete_node(TENANT, commit.node_id)
    assert await catalogue.adopt_object(commit) == CommitOutcome(created=False)
    with pytest.raises(NotFound):
        await catalogue.find_node(TENANT, DRIVE, "a.jpg")


async def test_drives_are_found_by_name_among_tenants(catalogue: Catalogue) -> None:
    await catalogue.create_drive("me", DRIVE, BUCKET, "ac", DrivePolicy())
    await catalogue.create_drive("acme", "other", BUCKET, "", DrivePolicy())
    await catalogue.create_drive("ACME", DRIVE, BUCKET, "", DrivePolicy())

    async def found(*tenants: str) -> list[str]:
        return sorted(drive.tenant for drive in await catalogue.drives_named(DRIVE, tenants))

    assert await found("e", "me", "cme", "acme", "acme ") == ["acme", "me"]
    assert await found("nobody") == []
    assert await found() == []
