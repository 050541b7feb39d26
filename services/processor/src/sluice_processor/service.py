"""The processor service on the backends that the settings name."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from sluice_common.backends.storage import open_database_catalogue, open_objects
from sluice_common.process.command import add_ready_file, announce, run_command, service_parser
from sluice_common.rpc.host import METRICS, process_name, traced
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.exposition import exposing
from sluice_common.telemetry.metrics import Metrics
from sluice_core.addresses import require_loopback
from sluice_core.combinations import CatalogueKind, Events, require_separable
from sluice_core.configuration import ConfigurationError
from sluice_processor.bootstrap import open_processor
from sluice_processor.settings import processor_options
from sluice_processor.source_set import check_sources, run_sources, sources_of
from sluice_processor.sources.dlq_command import SUBCOMMAND, add_dlq_command, dlq_main


def run(arguments: Sequence[str]) -> int:
    """Run the process; return its exit code.

    Args:
        arguments: without the name of the program.
    """
    parser = service_parser(
        "sluice-processor", "Make thumbnails of stored photos and read their EXIF."
    )
    add_ready_file(parser)
    add_dlq_command(parser.add_subparsers(dest="command", metavar=""))
    return run_command(parser, arguments, _main)


def check_has_work(settings: SluiceSettings) -> None:
    """Raise `ConfigurationError` for a combination in which there is nothing to process."""
    row = settings.row
    require_separable(row)
    if settings.catalogue is CatalogueKind.OFF:
        raise ConfigurationError(
            f"{row.name!r} has no catalogue and thus nothing to process; set SLUICE_CATALOGUE"
        )
    if settings.events is Events.OFF and settings.sqs.queue_url is None:
        raise ConfigurationError(
            "SLUICE_EVENTS=off: the processor learns of no uploads; set SLUICE_EVENTS=kafka or"
            " SLUICE_SQS__QUEUE_URL"
        )


async def _main(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    if arguments.command == SUBCOMMAND:
        await dlq_main(settings, arguments)
        return
    check_has_work(settings)
    require_loopback({METRICS: settings.metrics_address}, settings.allow_insecure)
    options = processor_options(settings)
    await check_sources(settings)
    metrics = Metrics()
    ready = asyncio.Event()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(traced(settings, "sluice-processor", process_name()))
        objects = await enter(open_objects(settings, metrics))
        catalogue = await enter(open_database_catalogue(settings))
        assert catalogue is not None, "check_has_work requires one"
        processor = await enter(open_processor(options, catalogue, objects, metrics, lazy=False))
        address = await enter(exposing(settings.metrics_address, metrics.registry, ready.is_set))
        await asyncio.to_thread(announce, "processor", address, arguments.ready_file)
        ready.set()
        try:
            # Nothing is published in this process, so no source is woken.
            sources = sources_of(settings, processor, metrics, asyncio.Event())
            await run_sources(sources, stop)
        finally:
            ready.clear()
