"""Contract of object stores. Add an adapter by one line in ALL or KEEPING. KEEPING stores return
bytes; the tests of names and completion run on the others too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from sluice_backends.discard.objects import DiscardObjectStore
from sluice_backends.files.store import FileObjectStore
from sluice_backends.s3.store import open_s3_store
from sluice_core.errors import DataLoss, FailedPrecondition, NotFound, SluiceError, Unimplemented
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import Body, ObjectAttributes, ObjectStore, PartTag
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MAX_BLOCK_BYTES, MIB, MIN_PART_BYTES, ObjectRef
from support.s3_server import empty_bucket, s3_account

Factory = Callable[[Path], AbstractAsyncContextManager[ObjectStore]]


@asynccontextmanager
async def files(path: Path) -> AsyncIterator[ObjectStore]:
    async with FileObjectStore(path / "objects", fsync=False) as store:
        yield store


@asynccontextmanager
async def files_fsync(path: Path) -> AsyncIterator[ObjectStore]:
    async with FileObjectStore(path / "objects", fsync=True) as store:
        yield store


@asynccontextmanager
async def discard(path: Path) -> AsyncIterator[ObjectStore]:
    yield DiscardObjectStore()


@asynccontextmanager
async def s3(path: Path) -> AsyncIterator[ObjectStore]:
    account = s3_account()
    await empty_bucket(BUCKET)
    async with open_s3_store(account.options()) as store:
        yield store


FILES: list[Factory] = [files, files_fsync]
KEEPING: list[Factory] = [*FILES, s3]
ALL: list[Factory] = [*KEEPING, discard]
WITHOUT_URLS: list[Factory] = [files, discard]

BUCKET = "sluice"
REF = ObjectRef(BUCKET, "prefix/tenant/drive/node-1")
PLAIN = ObjectAttributes()
LARGE = b"L" * MIN_PART_BYTES


def name_of(factory: Factory) -> str:
    return cast(str, getattr(factory, "__name__", "store"))


@pytest.fixture(params=KEEPING, ids=name_of)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with request.param(tmp_path) as opened:
        await opened.check(BUCKET)
        yield opened


@pytest.fixture(params=ALL, ids=name_of)
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with request.param(tmp_path) as opened:
        await opened.check(BUCKET)
        yield opened


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


class Gated(BytesBody):
    """Body that pauses after its first block until the gate opens."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()

    async def blocks(self) -> AsyncIterator[bytes]:
        async for block in super().blocks():
            yield block
            self.begun.set()
            await self.gate.wait()


class Failing(BytesBody):
    """Body whose source fails after the first block."""

    async def blocks(self) -> AsyncIterator[bytes]:
        async for block in super().blocks():
            yield block
            raise DataLoss("CHUNK_MISSING", "The rest is gone.")


async def read(
    store: ObjectStore, ref: ObjectRef = REF, offset: int = 0, length: int = 1 << 40
) -> bytes:
    blocks = [block async for block in store.read(ref, offset, length)]
    assert all(0 < len(block) <= MAX_BLOCK_BYTES for block in blocks)
    return b"".join(blocks)


async def assert_rejected(call: Any, error: type[SluiceError], reason: str) -> None:
    with pytest.raises(error) as caught:
        await call
    assert caught.value.reason == reason


def same_parts(listed: Sequence[PartTag], stored: Sequence[PartTag]) -> bool:
    """Compare parts; a store may list no CRC32C, but never a wrong one."""
    known = [
        replace(tag, crc32c=None) if shown.crc32c is None else tag
        for shown, tag in zip(listed, stored, strict=True)
    ]
    return list(listed) == known


async def store_parts(store: ObjectStore, *contents: bytes) -> tuple[str, list[PartTag]]:
    multipart_id = await store.open_multipart(REF, PLAIN)
    tags = [
        await store.put_part(REF, multipart_id, number, BytesBody(content))
        for number, content in enumerate(contents, 1)
    ]
    return multipart_id, tags


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


# ------------------------------------------------------------------ objects in parts


async def test_parts_become_an_object_in_their_order(store: ObjectStore) -> None:
    contents = [b"1" * MIN_PART_BYTES, b"2" * MIN_PART_BYTES, b"3" * 10]
    multipart_id = await store.open_multipart(REF, PLAIN)
    tags = {
        number: await store.put_part(REF, multipart_id, number, BytesBody(contents[number - 1]))
        for number in (3, 1, 2)
    }
    assert await store.head(REF) is None
    listed = await store.list_parts(REF, multipart_id)
    assert same_parts(listed, [tags[1], tags[2], tags[3]])
    info = await store.complete_multipart(REF, multipart_id, [tags[1], tags[2], tags[3]])
    whole = b"".join(contents)
    assert (info.size, info.crc32c) == (len(whole), crc32c(whole))
    assert await store.head(REF) == info
    assert await read(store) == whole
    assert await read(store, offset=MIN_PART_BYTES - 1, length=2) == b"12"


async def test_parts_can_be_stored_concurrently(any_store: ObjectStore) -> None:
    multipart_id = await any_store.open_multipart(REF, PLAIN)
    async with asyncio.TaskGroup() as group:
        for number in range(1, 9):
            body = BytesBody(bytes([number]) * MIN_PART_BYTES)
            group.create_task(any_store.put_part(REF, multipart_id, number, body))
    listed = await any_store.list_parts(REF, multipart_id)
    info = await any_store.complete_multipart(REF, multipart_id, listed)
    whole = b"".join(bytes([number]) * MIN_PART_BYTES for number in range(1, 9))
    assert (info.size, info.crc32c) == (len(whole), crc32c(whole))


async def test_a_part_tag_says_what_was_stored(any_store: ObjectStore) -> None:
    _, (tag,) = await store_parts(any_store, b"abc")
    assert (tag.number, tag.size, tag.crc32c) == (1, 3, crc32c(b"abc"))


async def test_only_the_listed_parts_make_the_object(store: ObjectStore) -> None:
    multipart_id, tags = await store_parts(store, LARGE, b"left out", b"end")
    await store.complete_multipart(REF, multipart_id, [tags[0], tags[2]])
    assert await read(store) == LARGE + b"end"


@pytest.mark.rule(16)
async def test_a_part_that_is_stored_again_replaces_the_first(store: ObjectStore) -> None:
    multipart_id, (first,) = await store_parts(store, b"first try")
    second = await store.put_part(REF, multipart_id, 1, BytesBody(b"second try"))
    # SeaweedFS keeps both, and lists two of the same second in any order: we see either.
    (listed,) = await store.list_parts(REF, multipart_id)
    assert any(same_parts([listed], [tag]) for tag in (first, second))
    await store.complete_multipart(REF, multipart_id, [second])
    assert await read(store) == b"second try"


async def test_replaced_part_is_never_taken_for_its_successor(store: ObjectStore) -> None:
    multipart_id, (first,) = await store_parts(store, b"first try")
    await store.put_part(REF, multipart_id, 1, BytesBody(b"second try"))
    with suppress(FailedPrecondition):
        # SeaweedFS keeps both until one of them is listed; others refuse.
        await store.complete_multipart(REF, multipart_id, [first])
    info = await store.head(REF)
    assert info is None or (info.crc32c, await read(store)) == (first.crc32c, b"first try")


@pytest.mark.rule(16)
async def test_concurrent_workers_on_one_part_leave_one_of_theirs(store: ObjectStore) -> None:
    multipart_id = await store.open_multipart(REF, PLAIN)
    async with asyncio.TaskGroup() as group:
        tries = [
            group.create_task(store.put_part(REF, multipart_id, 1, BytesBody(bytes([n]) * MIB * 2)))
            for n in range(4)
        ]
    (winner,) = await store.list_parts(REF, multipart_id)
    (tag,) = [task.result() for task in tries if task.result().etag == winner.etag]
    assert same_parts([winner], [tag])
    await store.complete_multipart(REF, multipart_id, [winner])
    assert crc32c(await read(store)) == tag.crc32c


async def test_part_list_that_is_not_stored_is_rejected(any_store: ObjectStore) -> None:
    multipart_id, tags = await store_parts(any_store, LARGE, b"end")
    unknown = PartTag(7, tags[1].etag, tags[1].size, tags[1].crc32c)
    foreign = PartTag(2, tags[0].etag, tags[0].size, tags[0].crc32c)
    for listed in ([], [tags[1], tags[0]], [tags[0], tags[0]], [tags[0], unknown], [foreign]):
        await assert_rejected(
            any_store.complete_multipart(REF, multipart_id, listed),
            FailedPrecondition,
            "INVALID_PART",
        )
    assert await any_store.head(REF) is None
    await any_store.complete_multipart(REF, multipart_id, tags)


async def test_small_part_before_the_last_is_rejected(any_store: ObjectStore) -> None:
    multipart_id, tags = await store_parts(any_store, LARGE[1:], b"end")
    await assert_rejected(
        any_store.complete_multipart(REF, multipart_id, tags),
        FailedPrecondition,
        "PART_TOO_SMALL",
    )
    assert await any_store.head(REF) is None


async def test_a_completed_multipart_is_gone(any_store: ObjectStore) -> None:
    multipart_id, tags = await store_parts(any_store, b"x")
    info = await any_store.complete_multipart(REF, multipart_id, tags)
    for call in (
        any_store.list_parts(REF, multipart_id),
        any_store.put_part(REF, multipart_id, 1, BytesBody(b"late")),
    ):
        await assert_rejected(call, NotFound, "MULTIPART_NOT_FOUND")
    with suppress(NotFound):
        assert await any_store.complete_multipart(REF, multipart_id, tags) == info
    await any_store.abort_multipart(REF, multipart_id)
    assert await any_store.head(REF) == info


async def test_an_aborted_multipart_is_gone(any_store: ObjectStore) -> None:
    multipart_id, tags = await store_parts(any_store, b"x")
    for _ in range(2):
        await any_store.abort_multipart(REF, multipart_id)
    await assert_rejected(
        any_store.complete_multipart(REF, multipart_id, tags), NotFound, "MULTIPART_NOT_FOUND"
    )
    assert await any_store.head(REF) is None


@pytest.mark.parametrize("multipart_id", ["", "..", "../..", "unknown", "0" * 32])
async def test_an_unknown_multipart_is_not_found(any_store: ObjectStore, multipart_id: str) -> None:
    await assert_rejected(
        any_store.put_part(REF, multipart_id, 1, BytesBody(b"x")), NotFound, "MULTIPART_NOT_FOUND"
    )
    await assert_rejected(any_store.list_parts(REF, multipart_id), NotFound, "MULTIPART_NOT_FOUND")
    await any_store.abort_multipart(REF, multipart_id)


async def test_a_multipart_belongs_to_its_key(any_store: ObjectStore) -> None:
    multipart_id, tags = await store_parts(any_store, b"x")
    other = ObjectRef(BUCKET, "other")
    await assert_rejected(
        any_store.complete_multipart(other, multipart_id, tags), NotFound, "MULTIPART_NOT_FOUND"
    )
    await any_store.abort_multipart(other, multipart_id)
    assert same_parts(await any_store.list_parts(REF, multipart_id), tags)


async def test_open_multiparts_of_a_key_can_be_found_again(any_store: ObjectStore) -> None:
    assert list(await any_store.open_multiparts(REF)) == []
    ids = {await any_store.open_multipart(REF, PLAIN) for _ in range(2)}
    await any_store.open_multipart(ObjectRef(BUCKET, REF.key + "x"), PLAIN)
    assert set(await any_store.open_multiparts(REF)) == ids
    completed_id, tags = await store_parts(any_store, b"x")
    await any_store.complete_multipart(REF, completed_id, tags)
    await any_store.abort_multipart(REF, ids.pop())
    assert set(await any_store.open_multiparts(REF)) == ids


async def test_part_in_flight_of_an_aborted_multipart_is_rejected(
    any_store: ObjectStore,
) -> None:
    multipart_id = await any_store.open_multipart(REF, PLAIN)
    body = Gated(b"z" * MIB * 2)
    putting = asyncio.create_task(any_store.put_part(REF, multipart_id, 1, body))
    await body.begun.wait()
    await any_store.abort_multipart(REF, multipart_id)
    body.gate.set()
    await assert_rejected(putting, NotFound, "MULTIPART_NOT_FOUND")


async def test_part_in_flight_does_not_change_a_completed_object(
    store: ObjectStore,
) -> None:
    multipart_id, tags = await store_parts(store, b"right")
    body = Gated(b"z" * MIB * 2)
    putting = asyncio.create_task(store.put_part(REF, multipart_id, 1, body))
    await body.begun.wait()
    await store.complete_multipart(REF, multipart_id, tags)
    body.gate.set()
    await assert_rejected(putting, NotFound, "MULTIPART_NOT_FOUND")
    assert await read(store) == b"right"


async def test_two_multiparts_under_one_key_do_not_mix(store: ObjectStore) -> None:
    first_id, first = await store_parts(store, b"first")
    second_id, second = await store_parts(store, b"second")
    await store.complete_multipart(REF, second_id, second)
    assert await read(store) == b"second"
    await store.complete_multipart(REF, first_id, first)
    assert await read(store) == b"first"


async def test_deleting_an_object_keeps_open_multiparts(store: ObjectStore) -> None:
    await store.put(REF, BytesBody(b"x"), PLAIN)
    multipart_id, tags = await store_parts(store, b"y")
    await store.delete(REF)
    await store.complete_multipart(REF, multipart_id, tags)
    assert await read(store) == b"y"


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
        for call in (opened.presign_get(REF, 60, "x"), opened.presign_put(REF, 60, 1, PLAIN)):
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
