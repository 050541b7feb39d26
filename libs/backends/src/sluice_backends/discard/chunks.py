"""Chunk store that discards bytes, for measuring network and intake without storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sluice_core.ports import Block, ChunkOffer, StagedChunk
from sluice_core.uploads.chunk_checks import check_name, chunk_missing
from sluice_core.uploads.model import ChunkRef


class NoStoredChunks:
    """Reads and deletions of a `ChunkStore` without stored bytes (phases 1 and 2).

    Reading raises `DataLoss` CHUNK_MISSING.
    """

    async def read(self, upload_id: str, chunk: ChunkRef) -> AsyncIterator[bytes]:
        if chunk.size > 0:
            raise chunk_missing(chunk)
        # An empty chunk has no bytes to lose. The loop makes this an asynchronous generator.
        no_blocks: tuple[bytes, ...] = ()
        for block in no_blocks:
            yield block

    async def read_many(self, upload_id: str, chunks: Sequence[ChunkRef]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            async for block in self.read(upload_id, chunk):
                yield block

    async def drop(self, upload_id: str, tokens: Sequence[str]) -> None:
        """No-op: no bytes are stored."""

    async def drop_upload(self, upload_id: str) -> None:
        """No-op: no bytes are stored."""

    async def leftovers(
        self, older_than_seconds: float, limit: int
    ) -> Sequence[tuple[str, Sequence[str]]]:
        return ()


class _Staged:
    def __init__(self, token: str) -> None:
        self._token = token
        self.size = 0
        self.sealed = False

    @property
    def token(self) -> str:
        return self._token

    async def append(self, block: Block) -> None:
        self.size += len(block)

    async def keep(self) -> None:
        """No-op: staged bytes live as long as their sender."""

    async def seal(self) -> None:
        self.sealed = True


class DiscardChunkStore(NoStoredChunks):
    """`ChunkStore` of phase 1; it only counts the sealed `chunks` and `bytes`."""

    def __init__(self) -> None:
        self.chunks = 0
        self.bytes = 0

    @asynccontextmanager
    async def stage(self, offer: ChunkOffer) -> AsyncIterator[StagedChunk]:
        upload_id, token = offer.upload_id, offer.token
        check_name(upload_id, "upload_id")
        check_name(token, "token")
        staged = _Staged(token)
        try:
            yield staged
        finally:
            if staged.sealed:
                self.chunks += 1
                self.bytes += staged.size
