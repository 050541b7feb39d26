"""Contract of object stores: objects in parts."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from sluice_core.errors import FailedPrecondition, NotFound
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectStore, PartTag
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB, MIN_PART_BYTES, ObjectRef
from support.object_stores import (
    BUCKET,
    LARGE,
    PLAIN,
    REF,
    Gated,
    assert_rejected,
    read,
    same_parts,
    store_parts,
)


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
