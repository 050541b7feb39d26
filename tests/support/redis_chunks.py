"""The Redis chunk store with the ledger step that makes its chunks readable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha1

from sluice_backends.redis import keys
from sluice_backends.redis.chunks.store import STAGING_SECONDS, RedisChunkStore
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.scripts import Script
from sluice_core.errors import DataLoss
from sluice_core.ports import Block, ChunkOffer, StagedChunk
from sluice_core.uploads.model import ChunkRef

_SOURCE = b"""
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('PERSIST', KEYS[2])
end
return redis.call('LLEN', KEYS[2])
"""
_PUBLISH = Script("test_publish", _SOURCE, sha1(_SOURCE, usedforsecurity=False).hexdigest())
_NEVER_SENT = 999_999


async def publish(clients: RedisClients, upload_id: str, token: str, number: int) -> int:
    """Publish a chunk's bytes as the accept script does; return the number of blocks."""
    names = [
        keys.staging(upload_id, token),
        keys.chunk(upload_id, number),
        keys.tokens(upload_id),
    ]
    return int(await clients.call(_PUBLISH, names, [token, number]))


class _Published:
    """A staged chunk that is accepted on sealing, under its own number."""

    def __init__(self, store: PublishingChunkStore, offer: ChunkOffer, inner: StagedChunk) -> None:
        self._store = store
        self._offer = offer
        self._inner = inner

    @property
    def token(self) -> str:
        return self._inner.token

    async def append(self, block: Block) -> None:
        await self._inner.append(block)

    async def keep(self) -> None:
        await self._inner.keep()

    async def seal(self) -> None:
        await self._inner.seal()
        await self._store.accept(self._offer)


class PublishingChunkStore:
    """A `ChunkStore` over `RedisChunkStore` that accepts every chunk on sealing.

    The contract suite does not number chunks, so they are numbered here in order of arrival.
    """

    def __init__(self, clients: RedisClients, staging_seconds: float = STAGING_SECONDS) -> None:
        self._clients = clients
        self._store = RedisChunkStore(clients, staging_seconds)
        self._numbers: dict[str, dict[str, int]] = {}

    async def accept(self, offer: ChunkOffer) -> None:
        numbers = self._numbers.setdefault(offer.upload_id, {})
        number = numbers.setdefault(offer.token, len(numbers))
        await publish(self._clients, offer.upload_id, offer.token, number)

    @asynccontextmanager
    async def stage(self, offer: ChunkOffer) -> AsyncIterator[StagedChunk]:
        async with self._store.stage(offer) as staged:
            yield _Published(self, offer, staged)

    def read(self, upload_id: str, chunk: ChunkRef) -> AsyncIterator[bytes]:
        return self.read_many(upload_id, (chunk,))

    async def read_many(self, upload_id: str, chunks: Sequence[ChunkRef]) -> AsyncIterator[bytes]:
        numbers = self._numbers.get(upload_id, {})
        theirs = {numbers.get(chunk.token, _NEVER_SENT): chunk for chunk in chunks}
        stored = [replace(chunk, number=number) for number, chunk in theirs.items()]
        try:
            async for block in self._store.read_many(upload_id, stored):
                yield block
        except DataLoss as error:
            number = theirs[int(error.metadata["number"])].number
            raise DataLoss(error.reason, error.message, metadata={"number": str(number)}) from error

    async def drop(self, upload_id: str, tokens: Sequence[str]) -> None:
        await self._store.drop(upload_id, tokens)

    async def drop_upload(self, upload_id: str) -> None:
        await self._store.drop_upload(upload_id)

    async def leftovers(
        self, older_than_seconds: float, limit: int
    ) -> Sequence[tuple[str, Sequence[str]]]:
        return await self._store.leftovers(older_than_seconds, limit)
