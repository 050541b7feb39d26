"""Contract of chunk stores: dropped chunks and leftovers."""

from __future__ import annotations

import asyncio

import pytest

from sluice_core.errors import Aborted
from sluice_core.ports import ChunkOffer, ChunkStore
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import MIB
from support.chunk_stores import UPLOAD, all_leftovers, assert_gone, keep, read

# ------------------------------------------------------------------ dropping


async def test_dropped_chunks_are_gone_and_the_others_stay(store: ChunkStore) -> None:
    first, second = await keep(store, UPLOAD, b"1"), await keep(store, UPLOAD, b"2")
    await store.drop(UPLOAD, [first.token, new_token()])
    await assert_gone(store, UPLOAD, first)
    assert await read(store, UPLOAD, second) == b"2"


async def test_repeated_drop_is_a_no_op(any_store: ChunkStore) -> None:
    chunk = await keep(any_store, UPLOAD, b"1")
    for _ in range(2):
        await any_store.drop(UPLOAD, [chunk.token])
        await any_store.drop_upload(UPLOAD)


async def test_dropping_an_upload_leaves_other_uploads_alone(store: ChunkStore) -> None:
    gone = [await keep(store, UPLOAD, b"1"), await keep(store, UPLOAD, b"2" * MIB)]
    stays = await keep(store, "n1-other", b"3")
    await store.drop_upload(UPLOAD)
    for chunk in gone:
        await assert_gone(store, UPLOAD, chunk)
    assert await read(store, "n1-other", stays) == b"3"


@pytest.mark.parametrize("size", [10, MIB])
async def test_dropping_an_upload_ends_its_staging(store: ChunkStore, size: int) -> None:
    token = new_token()

    async def send() -> None:
        async with store.stage(ChunkOffer(UPLOAD, 0, 0, token)) as staged:
            await staged.append(b"x" * size)
            await store.drop_upload(UPLOAD)
            await staged.append(b"x" * size)
            await staged.seal()

    with pytest.raises(Aborted) as caught:
        await send()
    assert caught.value.reason == "STAGING_DROPPED"
    assert await all_leftovers(store) == set()


async def test_chunks_come_and_go_at_once(store: ChunkStore) -> None:
    async def one(number: int) -> None:
        chunk = await keep(store, UPLOAD, bytes([number]) * 1000)
        assert await read(store, UPLOAD, chunk) == bytes([number]) * 1000
        await store.drop(UPLOAD, [chunk.token])

    async with asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(one(number))
    assert await all_leftovers(store) == set()


# ------------------------------------------------------------------ leftovers


async def test_leftovers_name_every_old_chunk_eventually(listing_store: ChunkStore) -> None:
    kept = {
        (upload_id, (await keep(listing_store, upload_id, b"x")).token)
        for upload_id in ("n1-a", "n1-b", "n1-c")
        for _ in range(3)
    }
    assert await all_leftovers(listing_store, limit=2) == kept


async def test_young_chunks_are_not_leftovers(store: ChunkStore) -> None:
    await keep(store, UPLOAD, b"x")
    for _ in range(3):
        assert list(await store.leftovers(3600.0, 100)) == []
