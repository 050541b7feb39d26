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
from sluice_processor.scanning.clamd import ClamdScanner
from sluice_processor.scanning.command import CommandScanner
from sluice_processor.scanning.port import Scanner


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
        scanner = _scanner_of(options)
        yield NodeProcessor(ProcessorDeps(catalogue, objects, images, metrics, options, scanner))


def _scanner_of(options: ProcessorOptions) -> Scanner | None:
    if options.scan_command:
        return CommandScanner(options.scan_command, options.scan_seconds)
    if options.scan_address:
        return ClamdScanner(options.scan_address, options.scan_seconds)
    return None
