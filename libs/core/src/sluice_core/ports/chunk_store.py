"""Chunk store port: the bytes of chunks from their arrival until their part is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sluice_core.ports.answers import ChunkOffer
from sluice_core.uploads.model import ChunkRef

Block = bytes | memoryview
"""At most MAX_BLOCK_BYTES. A memoryview is valid only until the call that receives it returns."""


class StagedChunk(Protocol):
    """Bytes of one chunk being received, private to one sender until the ledger accepts them."""

    @property
    def token(self) -> str: ...

    async def append(self, block: Block) -> None:
        """Append a block. Never retry it blindly: a retry would append it twice (rule 1)."""
        ...

    async def keep(self) -> None:
        """Extend the time to live of the staged bytes, where the store has one, for a chunk that
        is slow but makes progress."""
        ...

    async def seal(self) -> None:
        """Make the bytes as durable as the durability class requires, before they are accepted."""
        ...


class ChunkStore(Protocol):
    """Storage of chunk blocks from their arrival until their part is stored."""

    def stage(self, offer: ChunkOffer) -> AbstractAsyncContextManager[StagedChunk]:
        """Open a staging area for the bytes of an offered chunk, under its token.

        Leaving it without `seal` discards the bytes; after `seal` they stay until `drop` (the
        ledger may have accepted them even if its answer was lost).
        """
        ...

    def read(self, upload_id: str, chunk: ChunkRef) -> AsyncIterator[bytes]:
        """Yield the chunk's blocks.

        Raise `DataLoss` CHUNK_MISSING when the bytes are gone, CHUNK_DAMAGED when length or CRC32C
        differ, at the latest at the end.
        """
        ...

    def read_many(self, upload_id: str, chunks: Sequence[ChunkRef]) -> AsyncIterator[bytes]:
        """Yield the blocks of these chunks in order, with fewer round trips than `read` of each.

        A block may hold several small chunks. Raise the errors of `read`.
        """
        ...

    async def drop(self, upload_id: str, tokens: Sequence[str]) -> None:
        """Delete chunks; unknown tokens are ignored."""
        ...

    async def drop_upload(self, upload_id: str) -> None:
        """Delete all bytes of an upload, staged ones included."""
        ...

    async def leftovers(
        self, older_than_seconds: float, limit: int
    ) -> Sequence[tuple[str, Sequence[str]]]:
        """Return (upload id, tokens) of bytes older than this.

        The sweeper asks the ledger which of them are referenced and drops the others. May be empty
        where the store expires bytes itself.
        """
        ...
