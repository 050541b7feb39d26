"""Tests of processing results over gRPC: GetNode and thumbnails by ReadNode."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice.repository.v1 import repository_pb2 as pb
from sluice_core.catalogue.processing import Processing, ProcessingState, Thumbnail
from sluice_core.errors import DataLoss, NotFound, OutOfRange
from sluice_core.objects.body import BytesBody
from sluice_core.ports.catalogue import DrivePolicy, NodeCommit
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.model import ObjectRef
from support.commits import BUCKET, DRIVE, TENANT
from support.repository import Repository, answered, running_repository

SMALL = b"a small picture" * 10
LOCATION = {"latitude": 59.5, "longitude": 18.25}


@pytest.fixture
async def repository(tmp_path: Path) -> AsyncIterator[Repository]:
    async with running_repository(tmp_path) as running:
        yield running


async def photo(repository: Repository) -> NodeCommit:
    """Commit a node with one thumbnail of size 256."""
    commit = await repository.store("a.jpg", b"a large picture")
    ref = ObjectRef(BUCKET, f"thumbnails/{commit.node_id}/x/256.webp")
    body = BytesBody(SMALL)
    info = await repository.objects.put(ref, body, ObjectAttributes("image/webp"))
    thumbnail = Thumbnail(256, 256, 128, "image/webp", body.size, body.crc32c, info.etag, ref)
    found = Processing(
        etag="e-1",
        state=ProcessingState.PROCESSED,
        content_type="image/jpeg",
        width=4000,
        height=2000,
        frames=1,
        exif={"camera_make": "Åsa", "iso": 100},
        location=dict(LOCATION),
        thumbnails=(thumbnail,),
    )
    await repository.catalogue.record_processed(TENANT, commit.node_id, found)
    return commit


async def get_node(repository: Repository, node_id: str) -> pb.GetNodeResponse:
    request = pb.GetNodeRequest(node_id=node_id)
    return await answered(repository.stub.GetNode(request, metadata=repository.metadata))


async def test_unprocessed_node_has_no_processing(repository: Repository) -> None:
    commit = await repository.store("a")
    assert not (await get_node(repository, commit.node_id)).HasField("processing")


async def test_processed_photo_has_its_properties(repository: Repository) -> None:
    found = (await get_node(repository, (await photo(repository)).node_id)).processing
    assert found.state == pb.PROCESSING_STATE_PROCESSED
    assert (found.content_type, found.width, found.height) == ("image/jpeg", 4000, 2000)
    assert json.loads(found.exif_json) == {"camera_make": "Åsa", "iso": 100}
    assert json.loads(found.location_json) == LOCATION
    (one,) = found.thumbnails
    assert (one.size, one.width, one.height, one.size_bytes) == (256, 256, 128, len(SMALL))


async def test_drop_location_hides_the_location(repository: Repository) -> None:
    commit = await photo(repository)
    await repository.catalogue.update_drive(TENANT, DRIVE, DrivePolicy(drop_location=True))
    answer = await get_node(repository, commit.node_id)
    assert answer.processing.location_json == ""
    assert b"59.5" not in answer.SerializeToString()


async def test_failed_processing_states_its_reason(repository: Repository) -> None:
    commit = await repository.store("a")
    failed = Processing("e", ProcessingState.FAILED, "image/png", "TRUNCATED", "It ends early.")
    await repository.catalogue.record_processed(TENANT, commit.node_id, failed)
    found = (await get_node(repository, commit.node_id)).processing
    assert found.state == pb.PROCESSING_STATE_FAILED
    assert (found.reason, found.detail) == ("TRUNCATED", "It ends early.")
    request = pb.ReadNodeRequest(node_id=commit.node_id, thumbnail_size=256)
    with pytest.raises(NotFound, match=r"THUMBNAIL_NOT_FOUND: .*TRUNCATED"):
        await repository.read(request)


async def test_a_thumbnail_is_read_like_a_node(repository: Repository) -> None:
    commit = await photo(repository)
    whole = await repository.read(pb.ReadNodeRequest(node_id=commit.node_id, thumbnail_size=256))
    assert b"".join(message.data for message in whole) == SMALL
    assert whole[0].node.size == len(b"a large picture")
    assert whole[0].thumbnail.content_type == "image/webp"
    (rest,) = await repository.read(
        pb.ReadNodeRequest(node_id=commit.node_id, thumbnail_size=256, offset=5, length=3)
    )
    assert rest.data == SMALL[5:8]
    with pytest.raises(OutOfRange):
        await repository.read(
            pb.ReadNodeRequest(node_id=commit.node_id, thumbnail_size=256, offset=1_000)
        )


async def test_missing_thumbnail_size_states_existing_sizes(
    repository: Repository,
) -> None:
    commit = await photo(repository)
    with pytest.raises(NotFound, match="use one of 256") as caught:
        await repository.read(pb.ReadNodeRequest(node_id=commit.node_id, thumbnail_size=64))
    assert caught.value.metadata["sizes"] == "256"
    other = await repository.store("b")
    with pytest.raises(NotFound, match="not processed yet"):
        await repository.read(pb.ReadNodeRequest(node_id=other.node_id, thumbnail_size=64))
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await repository.of("rival").read(
            pb.ReadNodeRequest(node_id=commit.node_id, thumbnail_size=256)
        )


async def test_damaged_thumbnail_is_data_loss(repository: Repository) -> None:
    commit = await photo(repository)
    ref = ObjectRef(BUCKET, f"thumbnails/{commit.node_id}/x/256.webp")
    await repository.objects.put(ref, BytesBody(SMALL[:-1] + b"?"), ObjectAttributes())
    with pytest.raises(DataLoss, match="OBJECT_DAMAGED"):
        await repository.read(pb.ReadNodeRequest(node_id=commit.node_id, thumbnail_size=256))
