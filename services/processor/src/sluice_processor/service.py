"""The processor process: command line and lifecycle."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from sluice_common.backends.storage import open_database_catalogue, open_objects
from sluice_common.process.command import add_ready_file, announce, run_command, service_parser
from sluice_common.rpc.host import METRICS, process_name, traced
from sluice_common.security.exposure import check_exposure
from sluice_common.security.tls.servers import open_server_tls
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.exposition import exposing
from sluice_core.combinations import CatalogueKind, Events, require_separable
from sluice_core.configuration import ConfigurationError
from sluice_processor.bootstrap import open_processor
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.settings import processor_options
from sluice_processor.source_set import check_sources, run_sources, sources_of
from sluice_processor.sources.dlq_command import SUBCOMMAND, add_dlq_command, dlq_main


def run(arguments: Sequence[str]) -> int:
    """Run the process until it stops and return the exit code.

    Args:
        arguments: without the program's name.
    """
    parser = service_parser(
        "sluice-processor", "Make thumbnails of stored photos and read their EXIF."
    )
    add_ready_file(parser)
    add_dlq_command(parser.add_subparsers(dest="command", metavar=""))
    return run_command(parser, arguments, _main)


def check_settings(settings: SluiceSettings) -> None:
    """Raise `ConfigurationError` for settings with which a processor cannot run on its own."""
    combination = settings.supported_combination
    require_separable(combination)
    if settings.catalogue is CatalogueKind.OFF:
        raise ConfigurationError(
            f"{combination.name!r} has no catalogue and thus nothing to process; "
            "set SLUICE_CATALOGUE"
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
    check_settings(settings)
    check_exposure(settings, metrics={METRICS: settings.metrics_address})
    options = processor_options(settings)
    await check_sources(settings)
    metrics = ProcessorMetrics()
    tls = open_server_tls(settings.tls, metrics.registry)
    contexts = None if tls is None else tls.https_contexts()
    ready = asyncio.Event()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(traced(settings, "sluice-processor", process_name()))
        objects = await enter(open_objects(settings, metrics.s3))
        catalogue = await enter(open_database_catalogue(settings))
        assert catalogue is not None, "check_settings requires one"
        processor = await enter(open_processor(options, catalogue, objects, metrics, lazy=False))
        address = await enter(
            exposing(settings.metrics_address, metrics.registry, ready.is_set, contexts)
        )
        await asyncio.to_thread(announce, "processor", address, arguments.ready_file)
        ready.set()
        try:
            # Nothing is published in this process, so no source is woken.
            sources = sources_of(settings, processor, metrics, asyncio.Event())
            await run_sources(sources, stop)
        finally:
            ready.clear()
