"""The chunk store: the bytes of chunks, from their arrival until their part is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sluice_core.ports.answers import ChunkOffer
from sluice_core.uploads.model import ChunkRef

Block = bytes | memoryview
"""At most MAX_BLOCK_BYTES. A memoryview stays valid only until the call it is given to returns."""


class StagedChunk(Protocol):
    """Bytes of one chunk on their way in, private to one sender until the ledger accepts them."""

    @property
    def token(self) -> str: ...

    async def append(self, block: Block) -> None:
        """Add a block. Never repeated blindly: a repeat would double it (rule 1)."""
        ...

    async def keep(self) -> None:
        """Prolong the life of the staged bytes, where it ends by itself: the chunk is slow and
        makes progress."""
        ...

    async def seal(self) -> None:
        """Make the bytes as safe as the durability class asks, before the ledger accepts them."""
        ...


class ChunkStore(Protocol):
    """Keeps the blocks of chunks from their arrival until their part is stored."""

    def stage(self, offer: ChunkOffer) -> AbstractAsyncContextManager[StagedChunk]:
        """Open a staging area for the bytes of an offered chunk, under its token.

        Leaving it without `seal` discards the bytes; after `seal` they stay until `drop` (the
        ledger may have accepted them even if its answer was lost).
        """
        ...

    def read(self, upload_id: str, chunk: ChunkRef) -> AsyncIterator[bytes]:
        """The chunk's blocks. Raises `DataLoss` CHUNK_MISSING or CHUNK_DAMAGED when the bytes are
        gone, have another length or another CRC32C; detected at the latest at the end."""
        ...

    def read_many(self, upload_id: str, chunks: Sequence[ChunkRef]) -> AsyncIterator[bytes]:
        """The blocks of these chunks, one chunk after the other, with fewer round trips than
        `read` of each; a block may hold several small chunks. Raises as `read` does."""
        ...

    async def drop(self, upload_id: str, tokens: Sequence[str]) -> None:
        """Forget chunks; unknown tokens are no error."""
        ...

    async def drop_upload(self, upload_id: str) -> None:
        """Forget everything of an upload, staging included."""
        ...

    async def leftovers(
        self, older_than_seconds: float, limit: int
    ) -> Sequence[tuple[str, Sequence[str]]]:
        """(upload id, tokens) of bytes older than this; the sweeper asks the ledger which of them
        are still named and drops the rest. May be empty where the store expires by itself."""
        ...
