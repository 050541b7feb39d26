"""Catalogue contract for operators: nodes in any state, rows of the outbox, known objects."""

from __future__ import annotations

from dataclasses import replace

from sluice_core.ports.catalogue import ObjectIntent
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.inspection import NodeState, OutboxCounts, Reference
from sluice_core.uploads.model import ObjectRef
from support.commits import BUCKET, TENANT
from support.photo_jobs import create_photo
from support.processing_results import committed, failed, processed, recorded


async def test_nodes_are_shown_in_every_state(catalogue: GatewayCatalogue) -> None:
    commit = await committed(catalogue)
    node = await catalogue.inspect_node(commit.node_id)
    assert node is not None
    assert (node.state, node.upload_id, node.path) == (
        NodeState.LIVE,
        commit.upload_id,
        commit.path,
    )
    assert (node.tenant, node.processing) == (TENANT, "")
    await recorded(catalogue, commit.node_id, failed())
    node = await catalogue.inspect_node(commit.node_id)
    assert node is not None
    assert (node.processing, node.processing_reason) == ("FAILED", failed().reason)
    await catalogue.delete_node(TENANT, commit.node_id)
    node = await catalogue.inspect_node(commit.node_id)
    assert node is not None
    assert node.state is NodeState.DELETED
    assert await catalogue.inspect_node("nonexistent") is None


async def test_rows_of_the_outbox_with_what_is_withheld(catalogue: GatewayCatalogue) -> None:
    assert await catalogue.count_outbox() == OutboxCounts(0, 0)
    commit = await committed(catalogue)
    await catalogue.delete_node(TENANT, commit.node_id)
    rows = await catalogue.outbox(100)
    assert len(rows) > 1
    assert await catalogue.count_outbox() == OutboxCounts(len(rows), 0)
    await catalogue.withhold([row.row_id for row in rows])
    assert await catalogue.count_outbox() == OutboxCounts(len(rows), len(rows))
    shown = await catalogue.outbox_of(commit.node_id, 100)
    assert [each.row for each in shown] == list(rows)
    assert all(each.withheld for each in shown)
    assert len(await catalogue.outbox_of(commit.node_id, 1)) == 1
    assert await catalogue.outbox_of("nonexistent", 100) == []


async def test_every_reference_to_an_object_is_known(catalogue: GatewayCatalogue) -> None:
    live = await committed(catalogue)
    await recorded(catalogue, live.node_id, processed(live.node_id))
    thumbnail = processed(live.node_id).thumbnails[0].object
    photo = await create_photo(catalogue)
    intended = ObjectRef(BUCKET, "intended")
    await catalogue.record_intent(ObjectIntent("an-upload", TENANT, intended, "", 0.0))
    abandoned = ObjectRef(BUCKET, "abandoned")
    await catalogue.abandon_intent(ObjectIntent("another", TENANT, abandoned, "", 0.0))
    orphan = ObjectRef(BUCKET, "orphan")
    elsewhere = replace(live.object, bucket="another-bucket")
    asked = [live.object, thumbnail, photo.object, intended, abandoned, orphan, elsewhere]
    assert await catalogue.references(asked) == {
        live.object: Reference.NODE,
        thumbnail: Reference.THUMBNAIL,
        photo.object: Reference.PHOTO,
        intended: Reference.INTENT,
        abandoned: Reference.DELETION,
    }
    assert await catalogue.references([]) == {}
    await catalogue.delete_node(TENANT, live.node_id)
    ended = await catalogue.references([live.object, thumbnail])
    assert set(ended.values()) == {Reference.DELETION}
