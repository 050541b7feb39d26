"""The intake process: command line and lifecycle."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from sluice_common.process.command import add_ready_file, announce, run_command, service_parser
from sluice_common.rpc.host import Service, hosting, process_name, traced
from sluice_common.security.opening import open_authenticator
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.metrics import Metrics
from sluice_core.combinations import Coordination, require_separable
from sluice_core.configuration import ConfigurationError
from sluice_intake.backends import open_coordination, open_drives
from sluice_intake.bootstrap import add_intake, intake_deps
from sluice_intake.rpc.servicer import SERVICE_NAME
from sluice_intake.settings import intake_options

ADDRESS: Final = "SLUICE_INTAKE_ADDRESS"


def run(arguments: Sequence[str]) -> int:
    """Run the process until it is stopped; return its exit code.

    Args:
        arguments: the command line without the program's name.
    """
    parser = service_parser("sluice-intake", "Receive chunks and acknowledge them.")
    add_ready_file(parser)
    return run_command(parser, arguments, _main)


async def _main(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    require_separable(settings.row)
    _check_shared_port(settings)
    options = intake_options(settings)
    metrics = Metrics()
    metrics.budget_bytes.set(options.ledger.budget_bytes)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        tracing = await enter(traced(settings, "sluice-intake", process_name()))
        coordination = await enter(open_coordination(settings, metrics))
        drives = await enter(open_drives(settings))
        deps = intake_deps(coordination, drives, metrics, options)
        intake = Service(SERVICE_NAME, lambda server: add_intake(server, deps))
        authenticator = await enter(
            open_authenticator(
                settings.auth, metrics.registry, allow_insecure=settings.allow_insecure
            )
        )
        addresses = {ADDRESS: settings.intake_address}
        host = await enter(hosting(settings, (intake,), addresses, metrics, authenticator, tracing))
        await asyncio.to_thread(announce, "intake", host.addresses[ADDRESS], arguments.ready_file)
        await host.serve_until(stop, settings.drain_seconds)


def _check_shared_port(settings: SluiceSettings) -> None:
    """Raise `ConfigurationError` if intakes on one port would not share their uploads."""
    if settings.grpc.reuse_port and settings.coordination is not Coordination.REDIS:
        raise ConfigurationError(
            "SLUICE_GRPC__REUSE_PORT: intakes on one port share uploads only through Redis; "
            "set SLUICE_COORDINATION=redis"
        )
