"""Chunk store on Redis: lists of blocks that become chunks in the ledger's accept script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from sluice_backends.redis import keys
from sluice_backends.redis.chunks.staging import RedisStagedChunk
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.scripts import load_script
from sluice_backends.redis.client.server import Command
from sluice_core.ports import ChunkOffer, StagedChunk
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.chunk_checks import check_chunk, check_name, chunk_missing
from sluice_core.uploads.model import MIB, ChunkRef

STAGING_SECONDS: Final = 600.0
_REPLY_BYTES: Final = 2 * MIB
_SLICE_BLOCKS: Final = _REPLY_BYTES // keys.STAGED_BLOCK_BYTES
_REPLY_COMMANDS: Final = 256
_DROP_TOKENS: Final = 500


@dataclass(frozen=True, slots=True)
class _Slice:
    """Blocks `first` to `last` of a chunk, inclusive."""

    chunk: ChunkRef
    first: int
    last: int
    size: int

    @property
    def is_last(self) -> bool:
        """Whether the chunk has no further blocks."""
        return self.last >= keys.staged_blocks(self.chunk.size) - 1


class RedisChunkStore:
    """`ChunkStore` whose chunks are accepted by a ledger in the same Redis.

    A sealed chunk can be read once the ledger has accepted it. Chunks that are never accepted
    expire, so `leftovers` is empty.
    """

    def __init__(self, clients: RedisClients, staging_seconds: float = STAGING_SECONDS) -> None:
        self._clients = clients
        self._staging_seconds = staging_seconds
        self._staged: dict[str, set[RedisStagedChunk]] = {}
        self._drop = load_script(__package__, "chunk_drop")
        self._drop_upload = load_script(__package__, "chunk_drop_upload")

    @asynccontextmanager
    async def stage(self, offer: ChunkOffer) -> AsyncIterator[StagedChunk]:
        check_name(offer.upload_id, "upload_id")
        check_name(offer.token, "token")
        staged = RedisStagedChunk(self._clients, offer, self._staging_seconds)
        of_upload = self._staged.setdefault(offer.upload_id, set())
        of_upload.add(staged)
        try:
            yield staged
        finally:
            try:
                await staged.discard_unless_sealed()
            finally:
                of_upload.discard(staged)
                if not of_upload and self._staged.get(offer.upload_id) is of_upload:
                    del self._staged[offer.upload_id]

    def read(self, upload_id: str, chunk: ChunkRef) -> AsyncIterator[bytes]:
        return self.read_many(upload_id, (chunk,))

    async def read_many(self, upload_id: str, chunks: Sequence[ChunkRef]) -> AsyncIterator[bytes]:
        check_name(upload_id, "upload_id")
        size, crc = 0, EMPTY_CRC32C
        for batch in _batches(chunks):
            replies = await self._clients.pipeline(
                keys.upload(upload_id),
                [_read_command(upload_id, part) for part in batch],
                operation="chunk_read",
            )
            for part, reply in zip(batch, replies, strict=True):
                if _is_missing(part, reply):
                    raise chunk_missing(part.chunk)
                for block in reply if part.chunk.size > 0 else ():
                    size += len(block)
                    crc = crc32c(block, crc)
                    yield block
                if part.is_last:
                    check_chunk(part.chunk, size, crc)
                    size, crc = 0, EMPTY_CRC32C

    async def drop(self, upload_id: str, tokens: Sequence[str]) -> None:
        for token in tokens:
            check_name(token, "token")
        check_name(upload_id, "upload_id")
        for at in range(0, len(tokens), _DROP_TOKENS):
            await self._clients.call(
                self._drop,
                [keys.tokens(upload_id)],
                [keys.upload(upload_id), *tokens[at : at + _DROP_TOKENS]],
            )

    async def drop_upload(self, upload_id: str) -> None:
        """See `ChunkStore`. Chunks that another process is still sending stay until the ledger
        refuses them, or until their time to live ends."""
        check_name(upload_id, "upload_id")
        local = tuple(self._staged.get(upload_id, ()))
        for staged in local:
            await staged.drop()
        await self._unlink(upload_id, [staged.key for staged in local])
        cursor = b"0"
        while True:
            cursor = await self._clients.call(
                self._drop_upload,
                [keys.tokens(upload_id)],
                [keys.upload(upload_id), cursor, _DROP_TOKENS],
            )
            if cursor == b"0":
                return

    async def leftovers(
        self, older_than_seconds: float, limit: int
    ) -> Sequence[tuple[str, Sequence[str]]]:
        return ()

    async def _unlink(self, upload_id: str, names: Sequence[str]) -> None:
        # UNLINK frees the memory in another thread of the server.
        if names:
            await self._clients.execute(keys.upload(upload_id), "UNLINK", *names)


def _batches(chunks: Sequence[ChunkRef]) -> Iterator[list[_Slice]]:
    """Yield the slices of one round trip each, bounded in bytes and in commands."""
    batch: list[_Slice] = []
    size = 0
    for chunk in chunks:
        for part in _slices(chunk):
            if batch and (size + part.size > _REPLY_BYTES or len(batch) == _REPLY_COMMANDS):
                yield batch
                batch, size = [], 0
            batch.append(part)
            size += part.size
    if batch:
        yield batch


def _slices(chunk: ChunkRef) -> Iterator[_Slice]:
    blocks = max(1, keys.staged_blocks(chunk.size))
    for first in range(0, blocks, _SLICE_BLOCKS):
        last = min(first + _SLICE_BLOCKS, blocks) - 1
        size = min((last + 1) * keys.STAGED_BLOCK_BYTES, chunk.size)
        yield _Slice(chunk, first, last, size - first * keys.STAGED_BLOCK_BYTES)


def _read_command(upload_id: str, part: _Slice) -> Command:
    if part.chunk.size == 0:
        # An empty chunk has no list; only its token exists.
        return ("HEXISTS", keys.tokens(upload_id), part.chunk.token)
    # One block more than the ledger knows of, to detect a list that is too long.
    last = part.last + 1 if part.is_last else part.last
    return ("LRANGE", keys.chunk(upload_id, part.chunk.number), part.first, last)


def _is_missing(part: _Slice, reply: Any) -> bool:
    return not reply and part.first == 0
