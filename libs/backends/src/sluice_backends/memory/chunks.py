"""Chunk store in process memory, bounded by the ledger's budget (rule 9)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from sluice_core.ports import Block, ChunkOffer, StagedChunk
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.chunk_checks import (
    check_chunk,
    check_name,
    chunk_missing,
    staging_dropped,
    token_in_use,
)
from sluice_core.uploads.model import ChunkRef

_BUFFER_BYTES = 64 * 1024


class _Chunk:
    """Blocks in memory; a `StagedChunk` until it is sealed."""

    def __init__(self, token: str, since: float) -> None:
        self._token = token
        self.since = since
        self.blocks: list[bytes] = []
        self._buffer = bytearray()
        self.sealed = False
        self.dropped = False

    @property
    def token(self) -> str:
        return self._token

    async def append(self, block: Block) -> None:
        self._check()
        # Copy the block: a memoryview is invalid after return. Join small blocks: one object per
        # byte would cost a multiple of the budget.
        if len(self._buffer) + len(block) <= _BUFFER_BYTES:
            self._buffer += block
            return
        self._flush()
        self.blocks.append(bytes(block))

    async def keep(self) -> None:
        """No-op: staged bytes live as long as their sender."""

    async def seal(self) -> None:
        self._check()
        self._flush()
        self.sealed = True

    def _flush(self) -> None:
        if self._buffer:
            self.blocks.append(bytes(self._buffer))
            self._buffer.clear()

    def _check(self) -> None:
        if self.dropped:
            raise staging_dropped()


class MemoryChunkStore:
    """`ChunkStore` whose bytes live as long as the process.

    Args:
        clock: monotonic seconds, for the age of leftovers.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._uploads: dict[str, dict[str, _Chunk]] = {}

    @asynccontextmanager
    async def stage(self, offer: ChunkOffer) -> AsyncIterator[StagedChunk]:
        upload_id, token = offer.upload_id, offer.token
        check_name(upload_id, "upload_id")
        check_name(token, "token")
        chunks = self._uploads.setdefault(upload_id, {})
        if token in chunks:
            raise token_in_use()
        staged = chunks[token] = _Chunk(token, self._clock())
        try:
            yield staged
        finally:
            if not (staged.sealed or staged.dropped):
                self._remove(upload_id, token)

    async def read(self, upload_id: str, chunk: ChunkRef) -> AsyncIterator[bytes]:
        stored = self._uploads.get(upload_id, {}).get(chunk.token)
        if stored is None or not stored.sealed:
            raise chunk_missing(chunk)
        size, crc = 0, EMPTY_CRC32C
        # The blocks stay alive for this reader even if the chunk is dropped meanwhile.
        for block in stored.blocks:
            size += len(block)
            crc = crc32c(block, crc)
            yield block
        check_chunk(chunk, size, crc)

    async def read_many(self, upload_id: str, chunks: Sequence[ChunkRef]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            async for block in self.read(upload_id, chunk):
                yield block

    async def drop(self, upload_id: str, tokens: Sequence[str]) -> None:
        for token in tokens:
            self._remove(upload_id, token)

    async def drop_upload(self, upload_id: str) -> None:
        for token in list(self._uploads.get(upload_id, ())):
            self._remove(upload_id, token)

    async def leftovers(
        self, older_than_seconds: float, limit: int
    ) -> Sequence[tuple[str, Sequence[str]]]:
        before = self._clock() - older_than_seconds
        leftovers: list[tuple[str, Sequence[str]]] = []
        for upload_id, chunks in list(self._uploads.items()):
            if limit <= 0:
                break
            old = [token for token, chunk in chunks.items() if chunk.since <= before][:limit]
            if not old:
                continue
            leftovers.append((upload_id, old))
            limit -= len(old)
            # Move returned entries to the end, so that the next call starts with others.
            for token in old:
                chunks[token] = chunks.pop(token)
            self._uploads[upload_id] = self._uploads.pop(upload_id)
        return leftovers

    def _remove(self, upload_id: str, token: str) -> None:
        chunks = self._uploads.get(upload_id, {})
        chunk = chunks.pop(token, None)
        if chunk is not None:
            chunk.dropped = True
        if not chunks:
            self._uploads.pop(upload_id, None)
