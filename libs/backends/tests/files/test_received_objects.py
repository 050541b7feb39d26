"""Bodies that a store in files takes from clients, and metadata that it keeps for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_backends.files.store import FileObjectStore
from sluice_core.errors import AlreadyExists, DataLoss, NotFound
from sluice_core.objects.body import ArrivingBody, BytesBody
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB, ObjectRef

BUCKET = "sluice"
REF = ObjectRef(BUCKET, "tenant/drive/node-1")
PHOTO = ObjectAttributes("image/jpeg", metadata={"sluice-path": "YQ", "empty": ""})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileObjectStore]:
    async with FileObjectStore(tmp_path / "objects", fsync=True, min_part_bytes=1) as store:
        await store.check(BUCKET)
        yield store


def arriving(data: bytes, *, size: int | None = None, crc: int | None = None) -> ArrivingBody:
    length = len(data) if size is None else size
    return ArrivingBody(BytesBody(data).blocks(), size=length, claimed_crc32c=crc)


async def content(store: FileObjectStore) -> bytes:
    return b"".join([block async for block in store.read(REF, 0, 1 << 40)])


def leftovers(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "objects" / BUCKET / "tmp").iterdir())


async def test_received_body_gets_its_checksum(store: FileObjectStore) -> None:
    data = b"a" * MIB + b"b"
    info = await store.receive(REF, arriving(data), PHOTO)
    assert (info.size, info.crc32c) == (len(data), crc32c(data))
    assert await store.head(REF) == info
    assert await content(store) == data


@pytest.mark.parametrize(
    "body",
    [
        arriving(b"abc", size=2),
        arriving(b"abc", size=4),
        arriving(b"abc", crc=1),
        arriving(b"x" * MIB * 2, size=MIB),
    ],
    ids=["longer", "shorter", "checksum", "longer by blocks"],
)
async def test_other_body_than_announced_is_refused(
    store: FileObjectStore, tmp_path: Path, body: ArrivingBody
) -> None:
    with pytest.raises(DataLoss, match="CHECKSUM_MISMATCH"):
        await store.receive(REF, body, PHOTO)
    assert await store.head(REF) is None
    assert leftovers(tmp_path) == []


async def test_received_object_is_never_replaced(store: FileObjectStore, tmp_path: Path) -> None:
    first = await store.receive(REF, arriving(b"abc"), PHOTO)
    assert await store.receive(REF, arriving(b"abc"), PHOTO) == first
    with pytest.raises(AlreadyExists, match="OBJECT_EXISTS"):
        await store.receive(REF, arriving(b"xyz"), PHOTO)
    unread = arriving(b"longer")
    with pytest.raises(AlreadyExists, match="OBJECT_EXISTS"):
        await store.receive(REF, unread, PHOTO)
    assert unread.crc32c == 0, "bytes of another length are not even read"
    assert await content(store) == b"abc"
    assert leftovers(tmp_path) == []
    await store.put(REF, BytesBody(b"replaced by an upload"), PHOTO)
    assert await content(store) == b"replaced by an upload"


async def test_cancelled_receipt_leaves_nothing(store: FileObjectStore, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"z" * MIB
            begun.set()
            await asyncio.sleep(0)

    body = ArrivingBody(endless(), size=1 << 40)
    receiving = asyncio.create_task(store.receive(REF, body, PHOTO))
    await begun.wait()
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert await store.head(REF) is None
    assert leftovers(tmp_path) == []


async def test_open_object_is_the_one_that_was_opened(
    store: FileObjectStore, tmp_path: Path
) -> None:
    before = await store.receive(REF, arriving(b"before"), PHOTO)
    async with store.open_object(REF) as opened:
        await store.put(REF, BytesBody(b"after!"), PHOTO)
        assert opened.info == before
        assert b"".join([block async for block in opened.read(1, 3)]) == b"efo"
        assert leftovers(tmp_path)
    assert leftovers(tmp_path) == []
    await store.delete(REF)
    with pytest.raises(NotFound, match="OBJECT_NOT_FOUND"):
        async with store.open_object(REF):
            pass


async def test_metadata_is_kept(store: FileObjectStore) -> None:
    await store.receive(REF, arriving(b"abc"), PHOTO)
    info = await store.head(REF)
    assert info is not None
    assert (info.content_type, info.metadata) == (PHOTO.content_type, PHOTO.metadata)
    parts = ObjectRef(BUCKET, "in-parts")
    multipart_id = await store.open_multipart(parts, PHOTO)
    tag = await store.receive_part(parts, multipart_id, 1, arriving(b"abc"))
    await store.complete_multipart(parts, multipart_id, [tag])
    info = await store.head(parts)
    assert info is not None
    assert (info.content_type, info.metadata) == (PHOTO.content_type, PHOTO.metadata)


async def test_object_of_a_release_without_metadata_is_read(
    store: FileObjectStore, tmp_path: Path
) -> None:
    await store.put(REF, BytesBody(b"abc"), PHOTO)
    (file,) = tmp_path.rglob("manifest.json")
    manifest = json.loads(file.read_bytes())
    del manifest["attributes"]["metadata"]
    file.write_text(json.dumps(manifest), encoding="utf-8")
    info = await store.head(REF)
    assert info is not None
    assert (info.content_type, info.metadata) == ("image/jpeg", {})
