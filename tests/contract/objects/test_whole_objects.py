"""Contract of object stores: whole objects, ranges, buckets and URLs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from sluice_backends.discard.objects import DiscardObjectStore
from sluice_core.errors import DataLoss, NotFound, Unimplemented
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import Body, ObjectStore
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB, ObjectRef
from support.factories import name_of
from support.object_stores import (
    BUCKET,
    FILES,
    LARGE,
    PLAIN,
    REF,
    WITHOUT_URLS,
    Factory,
    Gated,
    assert_rejected,
    read,
    store_parts,
)


class Claims(BytesBody):
    """Body with a configurable size and CRC32C."""

    def __init__(self, data: bytes, *, size: int | None = None, crc: int | None = None) -> None:
        super().__init__(data)
        self._claimed_size = size
        self._claimed_crc = crc

    @property
    def size(self) -> int:
        return super().size if self._claimed_size is None else self._claimed_size

    @property
    def crc32c(self) -> int:
        return super().crc32c if self._claimed_crc is None else self._claimed_crc


class Failing(BytesBody):
    """Body whose source fails after the first block."""

    async def blocks(self) -> AsyncIterator[bytes]:
        async for block in super().blocks():
            yield block
            raise DataLoss("CHUNK_MISSING", "The rest is gone.")


# ------------------------------------------------------------------ whole objects


async def test_object_round_trips(store: ObjectStore) -> None:
    data = b"a" * MIB + b"b" * 100
    info = await store.put(REF, BytesBody(data), PLAIN)
    assert (info.ref, info.size, info.crc32c) == (REF, len(data), crc32c(data))
    assert await store.head(REF) == info
    assert await read(store) == data


async def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    await store.put(REF, BytesBody(b""), PLAIN)
    info = await store.head(REF)
    assert info is not None
    assert (info.size, info.crc32c) == (0, 0)
    assert await read(store) == b""


async def test_head_returns_the_result_of_put(any_store: ObjectStore) -> None:
    assert await any_store.head(REF) is None
    info = await any_store.put(REF, BytesBody(b"x"), PLAIN)
    assert await any_store.head(REF) == info


async def test_putting_again_replaces_the_object(store: ObjectStore) -> None:
    first = await store.put(REF, BytesBody(b"first"), PLAIN)
    second = await store.put(REF, BytesBody(b"second"), PLAIN)
    assert await read(store) == b"second"
    assert await store.head(REF) == second
    assert first.etag != second.etag


@pytest.mark.parametrize(
    "key",
    ["../../outside", "/absolute", "a//b/./..", "a" * 1500, "übermäßig/😀", "a\\b:c*?", "."],
)
@pytest.mark.parametrize("factory", FILES, ids=name_of)
async def test_any_key_names_its_own_object(factory: Factory, key: str, tmp_path: Path) -> None:
    ref = ObjectRef(BUCKET, key)
    async with factory(tmp_path) as store:
        await store.check(BUCKET)
        await store.put(ref, BytesBody(key.encode()), PLAIN)
        await store.put(ObjectRef(BUCKET, key + "x"), BytesBody(b"other"), PLAIN)
        assert await read(store, ref) == key.encode()
    assert {path.name for path in tmp_path.iterdir()} == {"objects"}


async def test_deleting_removes_the_object(store: ObjectStore) -> None:
    other = ObjectRef(BUCKET, "other")
    await store.put(REF, BytesBody(b"x"), PLAIN)
    await store.put(other, BytesBody(b"y"), PLAIN)
    await store.delete(REF)
    assert await store.head(REF) is None
    await assert_rejected(read(store), NotFound, "OBJECT_NOT_FOUND")
    assert await read(store, other) == b"y"


async def test_deleting_an_unknown_object_is_a_no_op(any_store: ObjectStore) -> None:
    await any_store.delete(REF)
    await any_store.put(REF, BytesBody(b"x"), PLAIN)
    for _ in range(2):
        await any_store.delete(REF)
    assert await any_store.head(REF) is None


@pytest.mark.parametrize(
    "body",
    [
        Claims(b"right bytes", crc=1),
        Claims(b"right bytes", size=5),
        Claims(b"right bytes", size=12),
        Claims(b"z" * MIB * 2, crc=1),
        Claims(b"z" * MIB * 2, size=MIB),
    ],
    ids=["crc", "longer", "shorter", "crc of blocks", "longer by blocks"],
)
async def test_bytes_that_differ_from_the_claim_are_rejected(
    any_store: ObjectStore, body: Body
) -> None:
    before = await any_store.put(REF, BytesBody(b"before"), PLAIN)
    await assert_rejected(any_store.put(REF, body, PLAIN), DataLoss, "CHECKSUM_MISMATCH")
    assert await any_store.head(REF) == before
    multipart_id = await any_store.open_multipart(REF, PLAIN)
    await assert_rejected(
        any_store.put_part(REF, multipart_id, 1, body), DataLoss, "CHECKSUM_MISMATCH"
    )
    assert list(await any_store.list_parts(REF, multipart_id)) == []


async def test_a_body_that_fails_leaves_the_object_as_it_was(store: ObjectStore) -> None:
    await store.put(REF, BytesBody(b"before"), PLAIN)
    await assert_rejected(store.put(REF, Failing(b"z" * MIB * 2), PLAIN), DataLoss, "CHUNK_MISSING")
    assert await read(store) == b"before"


async def test_a_put_that_is_cancelled_leaves_the_object_as_it_was(store: ObjectStore) -> None:
    await store.put(REF, BytesBody(b"before"), PLAIN)
    body = Gated(b"z" * MIB * 2)
    putting = asyncio.create_task(store.put(REF, body, PLAIN))
    await body.begun.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await read(store) == b"before"


async def test_incomplete_object_is_not_visible(store: ObjectStore) -> None:
    body = Gated(b"z" * MIB * 2)
    async with asyncio.TaskGroup() as group:
        group.create_task(store.put(REF, body, PLAIN))
        await body.begun.wait()
        assert await store.head(REF) is None
        body.gate.set()
    assert await read(store) == b"z" * MIB * 2


# ------------------------------------------------------------------ ranges


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (0, 3 * MIB), (MIB - 1, 2), (5, 0), (2 * MIB + 17, 100), (3 * MIB, 10), (9 * MIB, 1)],
)
async def test_range_equals_the_slice(store: ObjectStore, offset: int, length: int) -> None:
    data = bytes(range(256)) * (3 * MIB // 256)
    await store.put(REF, BytesBody(data), PLAIN)
    assert await read(store, offset=offset, length=length) == data[offset : offset + length]


async def test_a_reader_keeps_the_object_that_it_opened(store: ObjectStore) -> None:
    multipart_id, tags = await store_parts(store, LARGE, b"old end")
    await store.complete_multipart(REF, multipart_id, tags)
    async with aclosing(cast(Any, store.read(REF, 0, 1 << 40))) as blocks:
        got = [await anext(blocks)]
        await store.put(REF, BytesBody(b"new"), PLAIN)
        assert await read(store) == b"new"
        await store.delete(REF)
        got += [block async for block in blocks]
    assert b"".join(got) == LARGE + b"old end"
    await assert_rejected(read(store), NotFound, "OBJECT_NOT_FOUND")


async def test_a_reader_may_leave_early(store: ObjectStore) -> None:
    await store.put(REF, BytesBody(b"x" * MIB * 4), PLAIN)
    async with aclosing(cast(Any, store.read(REF, 0, MIB * 4))) as blocks:
        assert len(await anext(blocks)) > 0
    await store.delete(REF)
    assert await store.head(REF) is None


# ------------------------------------------------------------------ buckets and URLs


async def test_an_unknown_bucket_is_not_found(store: ObjectStore) -> None:
    ref = ObjectRef("nowhere", "key")
    await assert_rejected(store.put(ref, BytesBody(b"x"), PLAIN), NotFound, "BUCKET_NOT_FOUND")
    await assert_rejected(store.open_multipart(ref, PLAIN), NotFound, "BUCKET_NOT_FOUND")


async def test_checking_a_bucket_again_changes_nothing(any_store: ObjectStore) -> None:
    info = await any_store.put(REF, BytesBody(b"x"), PLAIN)
    await any_store.check(BUCKET)
    assert await any_store.head(REF) == info


@pytest.mark.parametrize("factory", WITHOUT_URLS, ids=name_of)
async def test_store_without_urls_raises_presign_unsupported(
    factory: Factory, tmp_path: Path
) -> None:
    async with factory(tmp_path) as opened:
        for call in (
            opened.presign_get(REF, 60, "x"),
            opened.presign_put(REF, 60, 1, PLAIN),
            opened.presign_part(REF, "0" * 32, 1, 60, 1),
        ):
            await assert_rejected(call, Unimplemented, "PRESIGN_UNSUPPORTED")


# ------------------------------------------------------------------ the store that keeps nothing


async def test_discarded_bytes_cannot_be_read() -> None:
    store = DiscardObjectStore()
    await store.put(REF, BytesBody(b"x"), PLAIN)
    await assert_rejected(read(store), NotFound, "OBJECT_NOT_FOUND")


async def test_discarding_forgets_the_oldest_first() -> None:
    store = DiscardObjectStore(max_objects=2)
    refs = [ObjectRef(BUCKET, f"{n}") for n in range(3)]
    for ref in refs:
        await store.put(ref, BytesBody(b"x"), PLAIN)
    assert [await store.head(ref) is None for ref in refs] == [True, False, False]
