"""The intake process: command line and lifecycle."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from sluice_common.direct.targets import check_repository_target
from sluice_common.process.command import add_ready_file, announce, run_command, service_parser
from sluice_common.rates.opening import open_rate_limiter
from sluice_common.rpc.host import hosting, process_name, traced
from sluice_common.security.audit import log_refusals, writing_refusals
from sluice_common.security.opening import open_authenticator
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import (
    CatalogueKind,
    ChunkTransport,
    Coordination,
    require_separable,
)
from sluice_core.configuration import ConfigurationError
from sluice_intake.backends import open_coordination, open_drives
from sluice_intake.bootstrap import intake_deps, intake_service
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.settings import intake_options

ADDRESS: Final = "SLUICE_INTAKE_ADDRESS"


def run(arguments: Sequence[str]) -> int:
    """Run the process until it stops and return the exit code.

    Args:
        arguments: without the program's name.
    """
    parser = service_parser("sluice-intake", "Receive chunks and acknowledge them.")
    add_ready_file(parser)
    return run_command(parser, arguments, _main)


def check_settings(settings: SluiceSettings) -> None:
    """Raise `ConfigurationError` for settings with which an intake cannot run on its own."""
    require_separable(settings.supported_combination)
    if settings.grpc.reuse_port and settings.coordination is not Coordination.REDIS:
        raise ConfigurationError(
            "SLUICE_GRPC__REUSE_PORT: intakes on one port share uploads only through Redis; "
            "set SLUICE_COORDINATION=redis"
        )
    if (
        settings.catalogue is not CatalogueKind.OFF
        or settings.chunk_transport is ChunkTransport.DIRECT
    ):
        check_repository_target(settings)


async def _main(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    check_settings(settings)
    options = intake_options(settings)
    metrics = IntakeMetrics()
    metrics.ledger.budget_bytes.set(options.ledger.budget_bytes)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        tracing = await enter(traced(settings, "sluice-intake", process_name()))
        coordination = await enter(open_coordination(settings, metrics))
        drives = await enter(open_drives(settings))
        limiter = await enter(open_rate_limiter(settings, metrics.registry))
        deps = intake_deps(coordination, drives, metrics, options, limiter)
        authenticator = await enter(
            open_authenticator(
                settings.auth,
                metrics.registry,
                allow_insecure=settings.allow_insecure,
                require_strong=not settings.is_development,
            )
        )
        services = (intake_service(deps),)
        addresses = {ADDRESS: settings.intake_address}
        refusals = await enter(writing_refusals(log_refusals, metrics.rpc.audit_dropped))
        registry = metrics.registry
        host = await enter(
            hosting(
                settings,
                services,
                addresses,
                registry,
                authenticator,
                tracing,
                limiter,
                refusals,
            )
        )
        await asyncio.to_thread(announce, "intake", host.addresses[ADDRESS], arguments.ready_file)
        await host.serve_until(stop, settings.drain_seconds)
