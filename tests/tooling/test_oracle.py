"""Oracle: it accepts correct histories and detects violations."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pytest

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2 as pb
from sluice_core.ports.event_publisher import UPLOADS_TOPIC, EventRecord
from support.deployments import KINDS, deployment
from support.oracle import Content, ObservedUpload, published_by
from support.oracle.observations import Observations
from support.scene import Scene, scene
from support.wire import Chunk, cut

MIB = 1024 * 1024


async def upload_to(here: Scene, path: str, data: bytes, chunk_bytes: int = MIB) -> ObservedUpload:
    opened = await here.wire.initiate(path)
    chunks = cut(data, repeat(chunk_bytes)) or [Chunk(0, b"", is_last=True)]
    await here.wire.send_stream(opened.upload_id, chunks)
    await here.wire.complete(opened.upload_id)
    return here.oracle.observations.uploads[opened.upload_id]


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Scene]:
    with deployment("embedded", tmp_path) as backends:
        async with scene(backends) as opened:
            yield opened


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_correct_uploads_are_accepted(kind: str, tmp_path: Path) -> None:
    with deployment(kind, tmp_path) as backends:
        async with scene(backends) as here:
            wire = here.wire
            await upload_to(here, "streamed", os.urandom(3 * MIB + 7))
            await upload_to(here, "large", os.urandom(20 * MIB), 4 * MIB)
            await upload_to(here, "twice", b"first")
            await upload_to(here, "twice", b"second")
            await upload_to(here, "empty", b"")
            await wire.initiate("inline", inline_data=b"small")
            given_up = await wire.initiate("given-up")
            await wire.send_unary(given_up.upload_id, [Chunk(0, b"x" * 1000)])
            await wire.intake.AbortUpload(pb.AbortUploadRequest(upload_id=given_up.upload_id))
            unfinished = await wire.initiate("unfinished")
            await wire.send_unary(unfinished.upload_id, cut(os.urandom(5000), [1000] * 5))
            await here.judge()
            uploads = here.oracle.observations.uploads
            assert uploads[unfinished.upload_id].completed
            assert uploads[given_up.upload_id].ends == {pb.UPLOAD_STATE_ABORTED}
            assert len(uploads[unfinished.upload_id].acknowledged) == 5


async def test_only_missing_chunks_are_sent(embedded: Scene) -> None:
    opened = await embedded.wire.initiate("gaps")
    chunks = cut(b"aabbccdd", [2] * 4)
    await embedded.wire.send_unary(opened.upload_id, [chunks[0], chunks[3]])
    resent: list[int] = []

    def resend(_upload: ObservedUpload, number: int) -> bytes:
        resent.append(number)
        return chunks[number].data

    await embedded.oracle.settle(embedded.wire, resend)
    assert resent == [1, 2]
    await embedded.judge()


async def test_different_bytes_are_detected(embedded: Scene) -> None:
    upload = await upload_to(embedded, "file", b"0123456789", 5)
    chunk = upload.acknowledged[1]
    chunk.content = Content.of(b"56789"[::-1])
    with pytest.raises(AssertionError, match=r"chunk 1 of node .* is not what was sent"):
        await embedded.judge()
    chunk.content = Content.of(b"567890")
    with pytest.raises(AssertionError, match="another size"):
        await embedded.judge()


async def test_completed_upload_without_a_node_is_detected(embedded: Scene) -> None:
    upload = await upload_to(embedded, "file", b"x")
    # Deleted through a channel that the oracle does not observe.
    await embedded.wire.repository.DeleteNode(
        repository_pb2.DeleteNodeRequest(node_id=upload.node_id)
    )
    with pytest.raises(AssertionError, match="no node at"):
        await embedded.judge()


async def test_node_without_an_upload_is_detected(embedded: Scene) -> None:
    upload = await upload_to(embedded, "file", b"x")
    await upload_to(embedded, "other", b"y")
    del embedded.oracle.observations.uploads[upload.upload_id]
    with pytest.raises(AssertionError, match="nodes without a completed upload"):
        await embedded.judge()


async def test_bytes_of_uploads_in_flight_are_detected(
    embedded: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.oracle.judge.DRAIN_SECONDS", 0.5)
    opened = await embedded.wire.initiate("in-flight")
    await embedded.wire.send_unary(opened.upload_id, [Chunk(0, b"x" * MIB)])
    with pytest.raises(AssertionError, match="left behind"):
        await embedded.oracle.check_leftovers(embedded.backends)


async def test_lost_invented_and_swapped_events_are_detected(
    embedded: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upload_to(embedded, "file", b"x")
    await embedded.judge()
    monkeypatch.setattr("support.oracle.judge.DRAIN_SECONDS", 0.1)
    published = await published_by(embedded.backends)()
    # The processor publishes an event of the node at some later time; an event may be repeated.
    distinct = {event.event_id: event for event in published if event.topic == UPLOADS_TOPIC}
    events = [*distinct.values()]
    names = [event.type.rpartition(".")[2] for event in events]
    assert names == ["UploadInitiated", "UploadCompleted"]

    async def found(published: list[EventRecord], problem: str) -> None:
        async def answer() -> list[EventRecord]:
            return published

        with pytest.raises(AssertionError, match=problem):
            await embedded.oracle.check_events(embedded.wire, answer)

    await found(events[:1], "never published: UploadCompleted")
    await found([*events, replace(events[1], event_id="another")], "no such transition")
    await found(events[::-1], "out of order")


# ------------------------------------------------------------------ contradictions on the wire


def accepted(data: bytes, *, duplicate: bool = False) -> pb.Accepted:
    content = Content.of(data)
    return pb.Accepted(number=0, size=content.size, crc32c=content.crc32c, duplicate=duplicate)


@pytest.fixture
def observations() -> Observations:
    observations = Observations()
    observations.initiated("u", "n", "drive", "path")
    return observations


def test_acknowledging_different_bytes_is_a_contradiction(observations: Observations) -> None:
    observations.accepted("u", accepted(b"b"), Content.of(b"a"), force=False)
    assert observations.contradictions == [
        "chunk 0 of u was accepted as other bytes than were sent"
    ]


def test_acknowledging_a_partial_chunk_is_a_contradiction(observations: Observations) -> None:
    observations.accepted("u", accepted(b"b"), None, force=False)
    assert observations.contradictions == ["chunk 0 of u was accepted before it was sent whole"]


def test_second_content_of_a_chunk_needs_force(observations: Observations) -> None:
    observations.accepted("u", accepted(b"a"), Content.of(b"a"), force=False)
    observations.accepted("u", accepted(b"c"), Content.of(b"c"), force=True)
    assert observations.contradictions == []
    observations.accepted("u", accepted(b"b"), Content.of(b"b"), force=False)
    assert observations.contradictions == ["chunk 0 of u was accepted with two different contents"]


def test_two_ends_of_one_upload_are_a_contradiction(observations: Observations) -> None:
    for state in (pb.UPLOAD_STATE_COMPLETED, pb.UPLOAD_STATE_ABORTED):
        observations.status(pb.UploadStatus(upload_id="u", node_id="n", state=state))
    assert observations.contradictions == [
        "upload u ended in several ways: UploadAborted, UploadCompleted"
    ]


def test_chunk_that_is_new_twice_was_lost_in_between(observations: Observations) -> None:
    content = Content.of(b"a")
    observations.accepted("u", accepted(b"a"), content, force=False)
    observations.accepted("u", accepted(b"a", duplicate=True), content, force=False)
    assert observations.lost_chunks == 0
    observations.accepted("u", accepted(b"a"), content, force=False)
    assert observations.lost_chunks == 1


async def test_lost_chunks_are_reported_unless_the_class_allows_them(embedded: Scene) -> None:
    upload = await upload_to(embedded, "file", b"x")
    upload.lost.add(0)
    with pytest.raises(AssertionError, match="acknowledged chunks were lost"):
        await embedded.judge()
    await embedded.judge(may_lose=True)
