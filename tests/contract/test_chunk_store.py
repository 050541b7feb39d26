"""Contract of chunk stores. Add an adapter by one line in ALL or KEEPING."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_backends.discard.chunks import DiscardChunkStore
from sluice_backends.embedded.chunks.store import FileChunkStore
from sluice_backends.memory.chunks import MemoryChunkStore
from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import Aborted, AlreadyExists, DataLoss, InvalidArgument
from sluice_core.ports import ChunkOffer, ChunkStore
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import MAX_BLOCK_BYTES, MIB, ChunkRef
from support.chunk_sink import direct_store, running_sink
from support.redis_chunks import PublishingChunkStore
from support.redis_server import OPERATION_SECONDS, shared_cluster, shared_server

Factory = Callable[[Path], AbstractAsyncContextManager[ChunkStore]]


@asynccontextmanager
async def memory(path: Path) -> AsyncIterator[ChunkStore]:
    yield MemoryChunkStore()


@asynccontextmanager
async def discard(path: Path) -> AsyncIterator[ChunkStore]:
    yield DiscardChunkStore()


@asynccontextmanager
async def files(path: Path) -> AsyncIterator[ChunkStore]:
    async with FileChunkStore(path / "chunks", fsync=False) as store:
        yield store


@asynccontextmanager
async def files_fsync(path: Path) -> AsyncIterator[ChunkStore]:
    async with FileChunkStore(path / "chunks", fsync=True) as store:
        yield store


@asynccontextmanager
async def direct(path: Path) -> AsyncIterator[ChunkStore]:
    async with running_sink() as sink, direct_store(sink.address) as store:
        yield store


@asynccontextmanager
async def redis(path: Path) -> AsyncIterator[ChunkStore]:
    server = shared_server()
    server.flush()
    options = RedisOptions(server.url, operation_timeout_seconds=OPERATION_SECONDS)
    async with open_redis(options) as clients:
        yield PublishingChunkStore(clients)


@asynccontextmanager
async def redis_cluster(path: Path) -> AsyncIterator[ChunkStore]:
    cluster = shared_cluster()
    cluster.flush()
    options = RedisOptions(cluster.url, cluster=True, operation_timeout_seconds=OPERATION_SECONDS)
    async with open_redis(options) as clients:
        yield PublishingChunkStore(clients)


LISTING: list[Factory] = [memory, files, files_fsync]
"""Stores that name their leftovers; the others let them expire."""
KEEPING: list[Factory] = [*LISTING, redis, redis_cluster]
ALL: list[Factory] = [*KEEPING, discard, direct]


def name_of(factory: Factory) -> str:
    return cast(str, getattr(factory, "__name__", "store"))


@pytest.fixture(params=KEEPING, ids=name_of)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChunkStore]:
    async with request.param(tmp_path) as opened:
        yield opened


@pytest.fixture(params=LISTING, ids=name_of)
async def listing_store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[ChunkStore]:
    async with request.param(tmp_path) as opened:
        yield opened


@pytest.fixture(params=ALL, ids=name_of)
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChunkStore]:
    async with request.param(tmp_path) as opened:
        yield opened


UPLOAD = "n1-upload"


def ref_of(data: bytes, token: str, number: int = 0) -> ChunkRef:
    return ChunkRef(number, len(data), crc32c(data), token)


async def keep(
    store: ChunkStore, upload_id: str, *blocks: bytes, token: str = "", number: int = 0
) -> ChunkRef:
    """Stage and seal a chunk, as a sender does."""
    token = token or new_token()
    size = sum(len(block) for block in blocks)
    async with store.stage(ChunkOffer(upload_id, number, size, token)) as staged:
        for block in blocks:
            await staged.append(block)
        await staged.seal()
    return ref_of(b"".join(blocks), token, number)


async def joined(blocks: AsyncIterator[bytes]) -> bytes:
    read = [block async for block in blocks]
    assert all(0 < len(block) <= MAX_BLOCK_BYTES for block in read)
    return b"".join(read)


async def read(store: ChunkStore, upload_id: str, chunk: ChunkRef) -> bytes:
    return await joined(store.read(upload_id, chunk))


async def assert_gone(store: ChunkStore, upload_id: str, chunk: ChunkRef) -> None:
    with pytest.raises(DataLoss) as caught:
        await read(store, upload_id, chunk)
    assert caught.value.reason == "CHUNK_MISSING"


async def all_leftovers(store: ChunkStore, limit: int = 100) -> set[tuple[str, str]]:
    """Return the leftovers of several calls: one call may stop early."""
    found: set[tuple[str, str]] = set()
    for _ in range(20):
        named = await store.leftovers(0.0, limit)
        assert sum(len(tokens) for _, tokens in named) <= limit
        found |= {(upload_id, token) for upload_id, tokens in named for token in tokens}
    return found


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


# ------------------------------------------------------------------ staging


@pytest.mark.rule(1)
@pytest.mark.parametrize("size", [10, MIB])
async def test_leaving_without_seal_discards_the_bytes(store: ChunkStore, size: int) -> None:
    token = new_token()
    async with store.stage(ChunkOffer(UPLOAD, 0, 0, token)) as staged:
        await staged.append(b"x" * size)
    await assert_gone(store, UPLOAD, ref_of(b"x" * size, token))
    assert await all_leftovers(store) == set()


@pytest.mark.parametrize("size", [10, MIB])
async def test_a_sender_cancelled_in_mid_chunk_leaves_nothing(store: ChunkStore, size: int) -> None:
    token = new_token()
    begun = asyncio.Event()

    async def send() -> None:
        async with store.stage(ChunkOffer(UPLOAD, 0, 0, token)) as staged:
            while True:
                await staged.append(b"x" * size)
                begun.set()
                await asyncio.sleep(0)

    sender = asyncio.create_task(send())
    await begun.wait()
    sender.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sender
    assert await all_leftovers(store) == set()


@pytest.mark.rule(1)
async def test_an_error_after_seal_keeps_the_bytes(store: ChunkStore) -> None:
    # The ledger may have accepted the chunk although its answer was lost.
    token = new_token()

    async def send() -> None:
        async with store.stage(ChunkOffer(UPLOAD, 0, 0, token)) as staged:
            await staged.append(b"kept")
            await staged.seal()
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await send()
    assert await read(store, UPLOAD, ref_of(b"kept", token)) == b"kept"


@pytest.mark.rule(1)
async def test_a_chunk_is_not_readable_before_it_is_sealed(store: ChunkStore) -> None:
    token = new_token()
    async with store.stage(ChunkOffer(UPLOAD, 0, 0, token)) as staged:
        await staged.append(b"early")
        await assert_gone(store, UPLOAD, ref_of(b"early", token))
        await staged.seal()


@pytest.mark.rule(1)
@pytest.mark.parametrize("size", [10, MIB])
async def test_a_token_is_used_once(store: ChunkStore, size: int) -> None:
    chunk = await keep(store, UPLOAD, b"1" * size)
    with pytest.raises(AlreadyExists) as caught:
        await keep(store, UPLOAD, b"2" * size, token=chunk.token)
    assert caught.value.reason == "TOKEN_IN_USE"
    assert await read(store, UPLOAD, chunk) == b"1" * size


async def test_a_staged_chunk_knows_its_token(any_store: ChunkStore) -> None:
    async with any_store.stage(ChunkOffer(UPLOAD, 0, 0, "abc")) as staged:
        assert staged.token == "abc"


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a:b", "a\n", "{a}", "x" * 129])
async def test_id_that_could_escape_its_directory_is_rejected(
    any_store: ChunkStore, bad: str
) -> None:
    for upload_id, token in ((bad, "token"), (UPLOAD, bad)):
        with pytest.raises(InvalidArgument) as caught:
            async with any_store.stage(ChunkOffer(upload_id, 0, 0, token)):
                pytest.fail("staged under a bad id")
        assert caught.value.reason == "BAD_ID"


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
