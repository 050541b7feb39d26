"""Composition root of the processor: the only place that constructs its handler and decoders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sluice_core.configuration import ConfigurationError
from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_processor.deps import Images, ProcessorDeps
from sluice_processor.images.children.pool import ImageWorkers
from sluice_processor.images.children.process import ChildNotStarted
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.nodes.handler import NodeProcessor
from sluice_processor.nodes.lazy_images import lazy_images
from sluice_processor.options import ProcessorOptions


@asynccontextmanager
async def open_processor(
    options: ProcessorOptions,
    catalogue: Catalogue,
    objects: ObjectStore,
    metrics: ProcessorMetrics,
    *,
    lazy: bool,
) -> AsyncIterator[NodeProcessor]:
    """Open the node handler with its decoders.

    Args:
        lazy: start the decoders with the first picture.

    Raise `ConfigurationError` for a machine that cannot decode, unless `lazy`.
    """
    async with AsyncExitStack() as stack:
        images: Images
        if lazy:
            images = await stack.enter_async_context(lazy_images(options.images))
        else:
            try:
                images = await stack.enter_async_context(ImageWorkers(options.images))
            except ChildNotStarted as error:
                raise ConfigurationError(f"SLUICE_PROCESSOR__WORKERS: {error}") from error
        yield NodeProcessor(ProcessorDeps(catalogue, objects, images, metrics, options))
