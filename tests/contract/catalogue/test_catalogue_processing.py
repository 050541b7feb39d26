"""Catalogue contract for processing results."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from sluice.events.v1 import nodes_pb2
from sluice_core.catalogue.processing import NodeResult, ProcessingState, Recorded
from sluice_core.errors import NotFound
from sluice_core.ports.catalogue import Catalogue, DrivePolicy
from sluice_core.ports.event_publisher import NODES_TOPIC
from support.commits import DRIVE, TENANT
from support.processing_results import (
    announced,
    committed,
    doomed_keys,
    events,
    failed,
    keys_of,
    processed,
    recorded,
    result,
)

SHA256 = b"\x05" * 32
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_result_round_trips(catalogue: Catalogue) -> None:
    node_id = (await committed(catalogue)).node_id
    assert await result(catalogue, node_id) is None
    assert await announced(catalogue, node_id)
    assert await recorded(catalogue, node_id, processed(node_id)) is Recorded.RECORDED
    found = await result(catalogue, node_id)
    assert found is not None
    assert found.processed_at == pytest.approx(time.time(), abs=60)
    assert replace(found, processed_at=0.0) == processed(node_id)


@pytest.mark.rule(22, 23)
async def test_result_adds_one_event_with_the_node_key(catalogue: Catalogue) -> None:
    node_id = (await committed(catalogue)).node_id
    await catalogue.record_processed(TENANT, node_id, processed(node_id), trace_parent=TRACE)
    assert await recorded(catalogue, node_id, processed(node_id)) is Recorded.REPEATED
    (record,) = await events(catalogue, "NodeProcessed")
    assert (record.topic, record.key, record.headers) == (
        NODES_TOPIC,
        node_id,
        {"traceparent": TRACE},
    )
    event = nodes_pb2.NodeProcessed.FromString(record.payload)
    assert event.header.event_id == record.event_id
    assert event.header.sequence == (await catalogue.get_node(TENANT, node_id)).version
    assert (event.etag, event.content_type, event.width, event.height) == (
        "e-1",
        "image/jpeg",
        4000,
        3000,
    )
    assert [one.object_key for one in event.thumbnails] == [
        one.object.key for one in processed(node_id).thumbnails
    ]


async def test_event_contains_neither_location_nor_camera(catalogue: Catalogue) -> None:
    node_id = (await committed(catalogue)).node_id
    canary = replace(processed(node_id), location={"latitude": 59.329444}, exif={"a": "canary"})
    await recorded(catalogue, node_id, canary)
    (record,) = await events(catalogue, "NodeProcessed")
    assert b"canary" not in record.payload
    assert "59.329444" not in repr(nodes_pb2.NodeProcessed.FromString(record.payload))
    assert "59.329444" not in repr(canary)


async def test_a_failure_says_why(catalogue: Catalogue) -> None:
    node_id = (await committed(catalogue)).node_id
    assert await recorded(catalogue, node_id, failed()) is Recorded.RECORDED
    assert await recorded(catalogue, node_id, failed()) is Recorded.REPEATED
    (record,) = await events(catalogue, "NodeProcessingFailed")
    event = nodes_pb2.NodeProcessingFailed.FromString(record.payload)
    assert (event.reason, event.detail, event.etag) == (
        "TRUNCATED",
        "The picture ends early.",
        "e-1",
    )


async def test_success_replaces_failure_but_not_vice_versa(
    catalogue: Catalogue,
) -> None:
    node_id = (await committed(catalogue)).node_id
    await recorded(catalogue, node_id, failed())
    assert await recorded(catalogue, node_id, processed(node_id)) is Recorded.RECORDED
    assert await recorded(catalogue, node_id, failed()) is Recorded.REPEATED
    found = await result(catalogue, node_id)
    assert found is not None
    assert found.state is ProcessingState.PROCESSED
    ids = [
        record.event_id
        for name in ("NodeProcessed", "NodeProcessingFailed")
        for record in await events(catalogue, name)
    ]
    assert len(set(ids)) == 2


async def test_one_of_concurrent_results_is_recorded(catalogue: Catalogue) -> None:
    node_id = (await committed(catalogue)).node_id
    outcomes = await asyncio.gather(
        *(recorded(catalogue, node_id, processed(node_id)) for _ in range(8))
    )
    assert outcomes.count(Recorded.RECORDED) == 1
    assert len(await events(catalogue, "NodeProcessed")) == 1


@pytest.mark.rule(20)
async def test_result_sets_a_missing_sha256_with_one_event(catalogue: Catalogue) -> None:
    node_id = (await committed(catalogue)).node_id
    await catalogue.record_processed(TENANT, node_id, processed(node_id), sha256=SHA256)
    assert (await catalogue.get_node(TENANT, node_id)).sha256 == SHA256
    assert await catalogue.nodes_without_sha256(10) == []
    assert not await catalogue.record_sha256(node_id, SHA256)
    (verified,) = await events(catalogue, "NodeVerified")
    (event,) = await events(catalogue, "NodeProcessed")
    first = nodes_pb2.NodeVerified.FromString(verified.payload).header.sequence
    assert first < nodes_pb2.NodeProcessed.FromString(event.payload).header.sequence


@pytest.mark.rule(20)
async def test_result_keeps_a_known_sha256(catalogue: Catalogue) -> None:
    node_id = (await committed(catalogue)).node_id
    await catalogue.record_sha256(node_id, b"\x01" * 32)
    await catalogue.record_processed(TENANT, node_id, processed(node_id), sha256=SHA256)
    assert (await catalogue.get_node(TENANT, node_id)).sha256 == b"\x01" * 32
    assert len(await events(catalogue, "NodeVerified")) == 1


async def test_deleted_node_gets_no_result(catalogue: Catalogue) -> None:
    commit = await committed(catalogue)
    await announced(catalogue, commit.node_id)
    await catalogue.delete_node(TENANT, commit.node_id)
    assert await recorded(catalogue, commit.node_id, processed(commit.node_id)) is Recorded.GONE
    assert not await announced(catalogue, commit.node_id)
    assert await events(catalogue, "NodeProcessed") == []
    thumbnails = keys_of(processed(commit.node_id))
    assert await doomed_keys(catalogue) == sorted([commit.object.key, *thumbnails])


async def test_unknown_and_foreign_nodes_get_no_result(catalogue: Catalogue) -> None:
    node_id = (await committed(catalogue)).node_id
    await recorded(catalogue, node_id, processed(node_id))
    assert await recorded(catalogue, "unknown", processed("unknown")) is Recorded.GONE
    assert (
        await catalogue.record_processed("rival", node_id, processed(node_id, "e-2"))
        is Recorded.GONE
    )
    assert await catalogue.processing_of("rival", [node_id]) == {}


async def test_results_of_many_nodes_are_read_together(catalogue: Catalogue) -> None:
    ids = [(await committed(catalogue, f"p{number}")).node_id for number in range(3)]
    for node_id in ids[:2]:
        await recorded(catalogue, node_id, processed(node_id))
    found = await catalogue.processing_of(TENANT, [*ids, "unknown"])
    assert set(found) == set(ids[:2])
    assert all(keys_of(found[one]) == keys_of(processed(one)) for one in ids[:2])
    assert await catalogue.processing_of(TENANT, []) == {}


async def test_a_drive_may_drop_where_pictures_were_taken(catalogue: Catalogue) -> None:
    await catalogue.update_drive(TENANT, DRIVE, DrivePolicy(drop_location=True))
    node_id = (await committed(catalogue)).node_id
    await recorded(catalogue, node_id, processed(node_id))
    await catalogue.update_drive(TENANT, DRIVE, DrivePolicy(drop_location=False))
    found = await result(catalogue, node_id)
    assert found is not None
    assert found.location is None, "it was not kept"
    assert found.exif == processed(node_id).exif


async def test_drop_location_hides_stored_locations(
    catalogue: Catalogue,
) -> None:
    node_id = (await committed(catalogue)).node_id
    await recorded(catalogue, node_id, processed(node_id))
    await catalogue.update_drive(TENANT, DRIVE, DrivePolicy(drop_location=True))
    found = await result(catalogue, node_id)
    assert found is not None
    assert found.location is None


async def test_result_does_not_change_user_metadata(catalogue: Catalogue) -> None:
    node_id = (await committed(catalogue)).node_id
    await catalogue.update_node(TENANT, node_id, {"k": "v"}, 0)
    await recorded(catalogue, node_id, processed(node_id))
    node = await catalogue.get_node(TENANT, node_id)
    assert (dict(node.metadata), node.content_type) == ({"k": "v"}, "text/plain")
    with pytest.raises(NotFound):
        await catalogue.get_node("rival", node_id)


@pytest.mark.rule(20, 22, 23)
async def test_batched_results_are_recorded_as_if_alone(catalogue: Catalogue) -> None:
    new, verified, known, gone = [(await committed(catalogue, path)).node_id for path in "abcd"]
    await recorded(catalogue, known, processed(known, "e-1"))
    await announced(catalogue, gone)
    await catalogue.delete_node(TENANT, gone)
    before = {one: (await catalogue.get_node(TENANT, one)).version for one in (new, verified)}
    results = [
        NodeResult(TENANT, known, processed(known, "e-2")),
        NodeResult(TENANT, "unknown", failed()),
        NodeResult(TENANT, verified, failed(), sha256=SHA256),
        NodeResult("rival", new, failed()),
        NodeResult(TENANT, gone, processed(gone), sha256=SHA256),
    ]
    outcomes = await catalogue.record_all_processed(results)
    assert outcomes == [
        Recorded.RECORDED,
        *[Recorded.GONE, Recorded.RECORDED],
        *[Recorded.GONE] * 2,
    ]
    assert await result(catalogue, new) is None
    again = [results[0], NodeResult(TENANT, new, processed(new), trace_parent=TRACE), results[2]]
    outcomes = await catalogue.record_all_processed(again)
    assert outcomes == [Recorded.REPEATED, Recorded.RECORDED, Recorded.REPEATED]
    found = await catalogue.processing_of(TENANT, [new, verified, known, gone])
    assert {one: (found[one].etag, found[one].state.value) for one in found} == {
        new: ("e-1", "PROCESSED"),
        verified: ("e-1", "FAILED"),
        known: ("e-2", "PROCESSED"),
    }
    assert set(keys_of(processed(known, "e-1"))) <= set(await doomed_keys(catalogue))
    after = {one: await catalogue.get_node(TENANT, one) for one in (new, verified)}
    assert {one: after[one].version - before[one] for one in after} == {new: 1, verified: 2}
    assert (after[new].sha256, after[verified].sha256) == (None, SHA256)
    assert verified not in {node.node_id for node in await catalogue.nodes_without_sha256(10)}
    shown = await events(catalogue, "NodeProcessed")
    assert [event.key for event in shown] == [known, known, new]
    assert [event.headers for event in shown] == [{}, {}, {"traceparent": TRACE}]
    assert [event.key for event in await events(catalogue, "NodeProcessingFailed")] == [verified]
    assert [event.key for event in await events(catalogue, "NodeVerified")] == [verified]


async def test_batches_of_the_same_nodes_do_not_deadlock(
    catalogue: Catalogue,
) -> None:
    """The batches list the nodes in different orders."""
    ids = [(await committed(catalogue, f"p{number}")).node_id for number in range(6)]

    async def record(order: list[str]) -> list[Recorded]:
        results = [NodeResult(TENANT, one, processed(one)) for one in order]
        return list(await catalogue.record_all_processed(results))

    batches = await asyncio.gather(*(record(ids[n:] + ids[:n]) for n in range(6)))
    assert sorted(outcome for batch in batches for outcome in batch) == [
        *[Recorded.RECORDED] * 6,
        *[Recorded.REPEATED] * 30,
    ]
    assert len(await events(catalogue, "NodeProcessed")) == 6


async def test_candidates_are_live_nodes_with_their_results(catalogue: Catalogue) -> None:
    new, done, broken, gone = [(await committed(catalogue, path)).node_id for path in "abcd"]
    await recorded(catalogue, done, processed(done))
    await recorded(catalogue, broken, failed("e-7"))
    await catalogue.delete_node(TENANT, gone)
    found = await catalogue.candidates([new, done, broken, gone, "unknown"])
    assert {one: (found[one].etag, found[one].reason) for one in found} == {
        new: (None, ""),
        done: ("e-1", ""),
        broken: ("e-7", "TRUNCATED"),
    }
    assert found[new].node == await catalogue.get_node(TENANT, new)
    assert await catalogue.candidates([]) == {}
