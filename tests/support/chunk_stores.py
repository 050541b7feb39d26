"""Chunk stores of the contract. Add an adapter by one line in ALL or KEEPING."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from sluice_backends.discard.chunks import DiscardChunkStore
from sluice_backends.embedded.chunks.store import FileChunkStore
from sluice_backends.memory.chunks import MemoryChunkStore
from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import DataLoss
from sluice_core.ports import ChunkOffer, ChunkStore
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import MAX_BLOCK_BYTES, ChunkRef
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
