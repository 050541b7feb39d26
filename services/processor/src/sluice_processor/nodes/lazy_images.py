"""Lazily started decoders: a standalone server may never process a picture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sluice_processor.deps import Images
from sluice_processor.images.children.pool import ImageWorkers
from sluice_processor.images.model import ImageOptions, ProcessedImage


@asynccontextmanager
async def lazy_images(options: ImageOptions) -> AsyncIterator[Images]:
    """Yield decoders that start with the first picture and stop with the block."""
    async with AsyncExitStack() as stack:
        yield _LazyImages(options, stack)


class _LazyImages:
    def __init__(self, options: ImageOptions, stack: AsyncExitStack) -> None:
        self._options = options
        self._stack = stack
        self._workers: ImageWorkers | None = None
        self._starting = asyncio.Lock()

    async def process(
        self, source: int | Path, sizes: Sequence[int] | None = None
    ) -> ProcessedImage:
        async with self._starting:
            if self._workers is None:
                self._workers = await self._stack.enter_async_context(ImageWorkers(self._options))
        return await self._workers.process(source, sizes)
