"""The bytes of one part, read from the chunk store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from sluice_core.errors import DataLoss, Internal
from sluice_core.objects.body import ChunksBody, closing
from sluice_core.ports import ChunkStore, PartClaim, WorkLedger
from sluice_core.uploads.checksums import EMPTY_CRC32C, combined_crc32c
from sluice_core.uploads.model import ChunkRef

PAGE_CHUNKS = 1_000
"""Most chunks per ledger call: bounded work per call (rule 12)."""


class PartSource:
    """Chunks of a claimed part, in pages: memory does not grow with the number of chunks.

    Call `measure` first; it sets `crc32c` to the part's.
    """

    def __init__(self, ledger: WorkLedger, chunks: ChunkStore, claim: PartClaim) -> None:
        self._ledger = ledger
        self._chunks = chunks
        self._claim = claim
        self._only_page: Sequence[ChunkRef] | None = None
        self.crc32c = EMPTY_CRC32C

    async def measure(self) -> None:
        """Combine the part's CRC32C from those of its chunks, without reading their bytes."""
        size = 0
        crc = EMPTY_CRC32C
        async for page in self._pages():
            crc = combined_crc32c(((chunk.crc32c, chunk.size) for chunk in page), crc)
            size += sum(chunk.size for chunk in page)
        if size != self._claim.size:
            raise Internal(
                "PART_SIZE_MISMATCH",
                f"The chunks of the part have {size} bytes, the plan says {self._claim.size}.",
            )
        self.crc32c = crc

    def body(self) -> ChunksBody:
        """Return the part as a body that can be read more than once."""
        return ChunksBody(
            self._chunks,
            self._claim.snapshot.upload_id,
            self._refs,
            size=self._claim.size,
            crc32c=self.crc32c,
        )

    async def damaged_chunks(self) -> AsyncIterator[ChunkRef]:
        """Read every chunk and yield those whose bytes are missing or damaged."""
        async for chunk in self._refs():
            try:
                blocks = self._chunks.read(self._claim.snapshot.upload_id, chunk)
                async with closing(blocks) as whole:
                    async for _ in whole:
                        pass
            except DataLoss:
                yield chunk

    async def tokens(self) -> AsyncIterator[Sequence[str]]:
        """Yield pages of the staging tokens of the part's chunks."""
        async for page in self._pages():
            yield [chunk.token for chunk in page]

    async def _refs(self) -> AsyncIterator[ChunkRef]:
        async with closing(self._pages()) as pages:
            async for page in pages:
                for chunk in page:
                    yield chunk

    async def _pages(self) -> AsyncIterator[Sequence[ChunkRef]]:
        if self._only_page is not None:
            yield self._only_page
            return
        plan = self._claim.plan
        after = plan.first_chunk - 1
        while after < plan.last_chunk:
            page = await self._ledger.part_chunks(
                self._claim.snapshot.upload_id, plan, after, PAGE_CHUNKS
            )
            if not page:
                return
            if after < plan.first_chunk and page[-1].number == plan.last_chunk:
                # The page is the whole part, which does not change under the claim: keep it.
                self._only_page = page
            yield page
            after = page[-1].number
