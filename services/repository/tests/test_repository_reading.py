"""Tests of ReadNode and GetDownloadUrl over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from sluice.repository.v1 import repository_pb2 as pb
from sluice_backends.files.store import FileObjectStore
from sluice_core.errors import (
    Aborted,
    DataLoss,
    InvalidArgument,
    NotFound,
    OutOfRange,
    SluiceError,
    Unimplemented,
)
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.model import MAX_BLOCK_BYTES, ObjectRef
from support.commits import DRIVE, TENANT, finished_upload
from support.repository import Repository, answered, running_repository, serving

CONTENT = bytes(range(256)) * (5 * 1024 * 1024 // 512)  # two and a half blocks


@pytest.fixture
async def repository(tmp_path: Path) -> AsyncIterator[Repository]:
    async with running_repository(tmp_path) as running:
        yield running


async def refused(repository: Repository, request: pb.ReadNodeRequest) -> SluiceError:
    with pytest.raises(SluiceError) as caught:
        await repository.read(request)
    return caught.value


async def test_a_node_is_read_in_blocks_and_named_once(repository: Repository) -> None:
    commit = await repository.store("a", CONTENT)
    messages = await repository.read(pb.ReadNodeRequest(node_id=commit.node_id))
    assert b"".join(message.data for message in messages) == CONTENT
    assert all(0 < len(message.data) <= MAX_BLOCK_BYTES for message in messages)
    assert [message.HasField("node") for message in messages] == [True, False, False]
    assert messages[0].node.node_id == commit.node_id


async def test_an_empty_node_is_one_message_without_data(repository: Repository) -> None:
    await repository.store("a", b"")
    (message,) = await repository.read(
        pb.ReadNodeRequest(location=pb.NodePath(drive=DRIVE, path="a"))
    )
    assert (message.node.path, message.data) == ("a", b"")


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, None),
        (1, None),
        (0, 0),
        (7, 1),
        (MAX_BLOCK_BYTES - 1, 2),
        (len(CONTENT) - 1, 1000),
        (len(CONTENT), None),
        (0, 2**62),
    ],
)
async def test_range_read_equals_a_slice(
    repository: Repository, offset: int, length: int | None
) -> None:
    commit = await repository.store("a", CONTENT)
    messages = await repository.read(
        pb.ReadNodeRequest(node_id=commit.node_id, offset=offset, length=length)
    )
    end = None if length is None else offset + length
    assert b"".join(message.data for message in messages) == CONTENT[offset:end]


@pytest.mark.parametrize(
    ("offset", "length", "kind", "reason"),
    [
        (6, None, OutOfRange, "OFFSET_BEYOND_END"),
        (-1, None, InvalidArgument, "BAD_RANGE"),
        (0, -1, InvalidArgument, "BAD_RANGE"),
    ],
)
async def test_bad_range_is_refused_before_the_first_byte(
    repository: Repository, offset: int, length: int | None, kind: type, reason: str
) -> None:
    commit = await repository.store("a", b"hello")
    error = await refused(
        repository, pb.ReadNodeRequest(node_id=commit.node_id, offset=offset, length=length)
    )
    assert isinstance(error, kind)
    assert error.reason == reason


async def test_an_unknown_node_cannot_be_read(repository: Repository) -> None:
    error = await refused(repository, pb.ReadNodeRequest(node_id="unknown"))
    assert isinstance(error, NotFound)
    assert error.reason == "NODE_NOT_FOUND"


async def test_node_superseded_during_read_is_read_to_its_end(
    repository: Repository,
) -> None:
    await repository.store("a", CONTENT)
    call = repository.stub.ReadNode(
        pb.ReadNodeRequest(location=pb.NodePath(drive=DRIVE, path="a")),
        metadata=repository.metadata,
    )
    messages = aiter(call)
    got = bytearray((await anext(messages)).data)
    await repository.store("a", b"other")
    async for message in messages:
        got += message.data
    assert got == CONTENT


async def test_read_of_damaged_object_is_data_loss(repository: Repository) -> None:
    commit = await repository.store("a", b"hello")
    await repository.objects.put(commit.object, BytesBody(b"hullo"), ObjectAttributes())
    error = await refused(repository, pb.ReadNodeRequest(node_id=commit.node_id))
    assert isinstance(error, DataLoss)
    assert error.reason == "OBJECT_DAMAGED"


async def test_read_of_truncated_object_is_data_loss(repository: Repository) -> None:
    commit = await repository.store("a", b"hello")
    await repository.objects.put(commit.object, BytesBody(b"hell"), ObjectAttributes())
    for offset in (0, 1):
        error = await refused(repository, pb.ReadNodeRequest(node_id=commit.node_id, offset=offset))
        assert isinstance(error, DataLoss)
        assert error.reason == "OBJECT_TRUNCATED"


async def test_live_node_without_its_object_is_data_loss(repository: Repository) -> None:
    commit = finished_upload("a")
    await repository.catalogue.commit_node(commit)
    error = await refused(repository, pb.ReadNodeRequest(node_id=commit.node_id))
    assert isinstance(error, DataLoss)
    assert error.reason == "OBJECT_MISSING"


async def test_read_of_node_deleted_meanwhile_is_aborted(
    repository: Repository, tmp_path: Path
) -> None:
    commit = await repository.store("a")
    objects = _DeletedMeanwhile(repository, commit.node_id, tmp_path / "objects")
    async with objects, serving(repository.catalogue, objects) as server:
        error = await refused(server, pb.ReadNodeRequest(node_id=commit.node_id))
    assert isinstance(error, Aborted)
    assert error.reason == "NODE_REPLACED"


class _DeletedMeanwhile(FileObjectStore):
    """A file store that deletes a node and its object between lookup and read."""

    def __init__(self, repository: Repository, node_id: str, root: Path) -> None:
        super().__init__(root, fsync=False)
        self._repository = repository
        self._node_id = node_id

    async def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        await self._repository.catalogue.delete_node(TENANT, self._node_id)
        await self._repository.objects.delete(ref)
        async for block in super().read(ref, offset, length):
            yield block


async def test_cancelled_reads_leave_the_server_healthy(repository: Repository) -> None:
    commit = await repository.store("a", CONTENT)
    request = pb.ReadNodeRequest(node_id=commit.node_id)
    for _ in range(5):
        call = repository.stub.ReadNode(request, metadata=repository.metadata)
        await call.read()
        call.cancel()
    assert len(await repository.read(request)) == 3


async def test_files_have_no_download_urls(repository: Repository) -> None:
    commit = await repository.store("a")
    with pytest.raises(Unimplemented, match="PRESIGN_UNSUPPORTED"):
        await answered(
            repository.stub.GetDownloadUrl(
                pb.GetDownloadUrlRequest(node_id=commit.node_id), metadata=repository.metadata
            )
        )


class _SigningFiles(FileObjectStore):
    """A file store with signed URLs, in place of a store that can sign."""

    async def presign_get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        return f"https://store.test/{ref.bucket}/{ref.key}?name={filename}&for={lifetime_seconds}"


@pytest.fixture
async def signing(repository: Repository, tmp_path: Path) -> AsyncIterator[Repository]:
    objects = _SigningFiles(tmp_path / "signed", fsync=False)
    async with objects, serving(repository.catalogue, objects) as server:
        yield server


@pytest.mark.parametrize(
    ("lifetime", "seconds"), [(None, 900), (Duration(seconds=1), 1), (Duration(seconds=3600), 3600)]
)
async def test_download_url_states_file_name_and_expiry(
    signing: Repository, lifetime: Duration | None, seconds: int
) -> None:
    commit = finished_upload("folder/cat.jpg")
    await signing.catalogue.commit_node(commit)
    answer = await answered(
        signing.stub.GetDownloadUrl(
            pb.GetDownloadUrlRequest(node_id=commit.node_id, lifetime=lifetime),
            metadata=signing.metadata,
        )
    )
    assert answer.url.endswith(f"{commit.object.key}?name=cat.jpg&for={seconds}")
    node = await signing.catalogue.get_node(TENANT, commit.node_id)
    assert 0 <= answer.expires_at.ToSeconds() - int(node.created_at) - seconds < 60


@pytest.mark.parametrize(
    "lifetime", [Duration(), Duration(nanos=5), Duration(seconds=-1), Duration(seconds=3601)]
)
async def test_download_url_lifetime_is_limited(signing: Repository, lifetime: Duration) -> None:
    commit = finished_upload("a")
    await signing.catalogue.commit_node(commit)
    with pytest.raises(InvalidArgument, match="BAD_LIFETIME"):
        await answered(
            signing.stub.GetDownloadUrl(
                pb.GetDownloadUrlRequest(node_id=commit.node_id, lifetime=lifetime),
                metadata=signing.metadata,
            )
        )
