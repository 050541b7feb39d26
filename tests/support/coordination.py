"""Ledgers paired with their chunk stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sluice_backends.embedded.chunks.store import FileChunkStore
from sluice_backends.embedded.ledger.ledger import open_sqlite_ledger
from sluice_backends.memory.chunks import MemoryChunkStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_backends.redis.chunks.store import RedisChunkStore
from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.ledger.ledger import open_redis_ledger
from sluice_backends.redis.monitoring import open_redis_monitor
from sluice_backends.redis.options import RedisOptions
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports import ChunkStore, UploadLedger
from sluice_core.uploads.model import ChunkRef
from support.redis_server import OPERATION_SECONDS, shared_server


@dataclass(frozen=True, slots=True)
class Coordination:
    """The ledger and the chunk store of one backend."""

    ledger: UploadLedger
    chunks: ChunkStore

    async def bytes_of(self, upload_id: str, *chunks: ChunkRef) -> bytes:
        return b"".join([block async for block in self.chunks.read_many(upload_id, chunks)])


CoordinationFactory = Callable[[Path, LedgerOptions], AbstractAsyncContextManager[Coordination]]
"""Opens an empty pair in an empty folder."""


@asynccontextmanager
async def memory(folder: Path, options: LedgerOptions) -> AsyncIterator[Coordination]:
    yield Coordination(MemoryLedger(options), MemoryChunkStore())


@asynccontextmanager
async def embedded(folder: Path, options: LedgerOptions) -> AsyncIterator[Coordination]:
    async with (
        open_sqlite_ledger(folder / "ledger.db", options, fsync=False) as ledger,
        FileChunkStore(folder / "chunks", fsync=False) as chunks,
    ):
        yield Coordination(ledger, chunks)


@asynccontextmanager
async def redis(folder: Path, options: LedgerOptions) -> AsyncIterator[Coordination]:
    server = shared_server()
    server.flush()
    settings = RedisOptions(server.url, operation_timeout_seconds=OPERATION_SECONDS)
    async with (
        open_redis(settings) as clients,
        open_redis_monitor(clients, settings) as monitor,
        open_redis_ledger(clients, options, settings, monitor) as ledger,
    ):
        yield Coordination(ledger, RedisChunkStore(clients))


COORDINATIONS: Mapping[str, CoordinationFactory] = {
    "memory": memory,
    "embedded": embedded,
    "redis": redis,
}
"""Every pair that stores bytes; the sender and worker races run on all of them."""
