"""Contract of chunk stores: the bytes that are read, and damage to them."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_backends.discard.chunks import DiscardChunkStore
from sluice_core.errors import DataLoss
from sluice_core.ports import ChunkOffer, ChunkStore
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import MAX_BLOCK_BYTES, MIB, ChunkRef
from support.chunk_stores import (
    KEEPING,
    UPLOAD,
    Factory,
    assert_gone,
    joined,
    keep,
    read,
    ref_of,
)
from support.factories import name_of

# ------------------------------------------------------------------ bytes in, bytes out


async def test_a_sealed_chunk_reads_back_as_it_was_sent(store: ChunkStore) -> None:
    blocks = [b"a" * MIB, b"b" * MIB, b"c" * 17]
    chunk = await keep(store, UPLOAD, *blocks)
    assert await read(store, UPLOAD, chunk) == b"".join(blocks)


async def test_a_chunk_can_be_read_more_than_once(store: ChunkStore) -> None:
    chunk = await keep(store, UPLOAD, b"again")
    assert await read(store, UPLOAD, chunk) == await read(store, UPLOAD, chunk) == b"again"


async def test_an_empty_chunk_is_kept(store: ChunkStore) -> None:
    chunk = await keep(store, UPLOAD)
    assert await read(store, UPLOAD, chunk) == b""
    await store.drop(UPLOAD, [chunk.token])
    await assert_gone(store, UPLOAD, chunk)


@pytest.mark.parametrize("size", [10, MIB])
async def test_memoryview_may_be_reused_after_append(store: ChunkStore, size: int) -> None:
    buffer = bytearray(b"x" * size)
    token = new_token()
    async with store.stage(ChunkOffer(UPLOAD, 0, 0, token)) as staged:
        with memoryview(buffer) as view:
            await staged.append(view)
        buffer[:] = b"y" * size
        await staged.seal()
    assert await read(store, UPLOAD, ref_of(b"x" * size, token)) == b"x" * size


@pytest.mark.parametrize("factory", KEEPING, ids=name_of)
@settings(max_examples=20, deadline=None)
@given(
    blocks=st.lists(
        st.one_of(
            st.binary(max_size=64),
            st.integers(1, MAX_BLOCK_BYTES).map(lambda size: bytes([size % 251]) * size),
        ),
        max_size=8,
    )
)
async def test_any_split_into_blocks_reads_back_the_same(
    factory: Factory, blocks: list[bytes]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with factory(Path(folder)) as store:
            chunk = await keep(store, UPLOAD, *blocks)
            assert await read(store, UPLOAD, chunk) == b"".join(blocks)


@pytest.mark.rule(1)
async def test_many_chunks_at_once_do_not_mix(store: ChunkStore) -> None:
    def block(number: int) -> bytes:
        return bytes([number]) * (100 if number % 2 else 300_000)

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(keep(store, f"n1-{n % 3}", block(n), block(n))) for n in range(30)
        ]
    for number, task in enumerate(tasks):
        assert await read(store, f"n1-{number % 3}", task.result()) == block(number) * 2


async def test_a_reader_may_leave_early(store: ChunkStore) -> None:
    chunk = await keep(store, UPLOAD, *[b"z" * MIB] * 4)
    reader = store.read(UPLOAD, chunk)
    assert await anext(reader) == b"z" * MIB
    await reader.aclose()  # type: ignore[attr-defined]
    await store.drop(UPLOAD, [chunk.token])


@pytest.mark.parametrize("factory", KEEPING, ids=name_of)
@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.sampled_from([0, 1, 4096, 300_000, 2 * MIB + 1]), max_size=12))
async def test_many_chunks_read_as_one_after_the_other(factory: Factory, sizes: list[int]) -> None:
    contents = [bytes([number]) * size for number, size in enumerate(sizes)]
    with tempfile.TemporaryDirectory() as folder:
        async with factory(Path(folder)) as store:
            chunks = [
                await keep(store, UPLOAD, *(data[at : at + MIB] for at in range(0, len(data), MIB)))
                for data in contents
            ]
            assert await joined(store.read_many(UPLOAD, chunks)) == b"".join(contents)


async def test_one_bad_chunk_of_many_is_named(store: ChunkStore) -> None:
    chunks = [await keep(store, UPLOAD, bytes([number]) * 10) for number in range(3)]
    damaged = ChunkRef(1, 10, chunks[1].crc32c ^ 1, chunks[1].token)
    with pytest.raises(DataLoss) as caught:
        await joined(store.read_many(UPLOAD, [chunks[0], damaged, chunks[2]]))
    assert (caught.value.reason, caught.value.metadata["number"]) == ("CHUNK_DAMAGED", "1")
    await store.drop(UPLOAD, [chunks[2].token])
    with pytest.raises(DataLoss) as caught:
        await joined(store.read_many(UPLOAD, chunks))
    assert caught.value.reason == "CHUNK_MISSING"


# ------------------------------------------------------------------ damage


@pytest.mark.rule(8)
@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_bytes_that_differ_from_the_record_are_damaged(store: ChunkStore, size: int) -> None:
    chunk = await keep(store, UPLOAD, *[b"d" * min(size, MIB)] * max(1, size // MIB))
    for wrong in (
        ChunkRef(0, chunk.size, chunk.crc32c ^ 1, chunk.token),
        ChunkRef(0, chunk.size + 1, chunk.crc32c, chunk.token),
        ChunkRef(0, chunk.size - 1, chunk.crc32c, chunk.token),
    ):
        with pytest.raises(DataLoss) as caught:
            await read(store, UPLOAD, wrong)
        assert caught.value.reason == "CHUNK_DAMAGED"


async def test_an_unknown_chunk_is_missing(any_store: ChunkStore) -> None:
    await assert_gone(any_store, UPLOAD, ref_of(b"never sent", new_token()))


# ------------------------------------------------------------------ the store that keeps nothing


async def test_discarding_counts_what_was_sealed() -> None:
    store = DiscardChunkStore()
    await keep(store, UPLOAD, b"12345", b"678")
    async with store.stage(ChunkOffer(UPLOAD, 0, 0, new_token())) as staged:
        await staged.append(b"not sealed")
    assert (store.chunks, store.bytes) == (1, 8)


async def test_empty_chunk_reads_as_nothing_on_every_store() -> None:
    """This includes stores that keep no bytes."""
    store = DiscardChunkStore()
    assert await read(store, UPLOAD, await keep(store, UPLOAD)) == b""
    assert list(await store.leftovers(0.0, 10)) == []
