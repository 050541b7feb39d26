"""The intake process: command line and lifecycle."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sluice_common.process.command import add_ready_file, announce, run_command, service_parser
from sluice_common.rpc.host import METRICS, Service, hosting, process_name, traced
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.metrics import Metrics
from sluice_core.combinations import require_separable
from sluice_intake.backends import open_coordination, open_drives
from sluice_intake.bootstrap import add_intake, intake_deps
from sluice_intake.rpc.servicer import SERVICE_NAME
from sluice_intake.settings import intake_options
from sluice_intake.workers.metrics_targets import write_targets
from sluice_intake.workers.parent import stop_with_parent
from sluice_intake.workers.supervisor import run_workers

ADDRESS: Final = "SLUICE_INTAKE_ADDRESS"


def run(arguments: Sequence[str]) -> int:
    """Run the process until it is stopped; return its exit code.

    Args:
        arguments: the command line without the program's name.
    """
    parser = service_parser("sluice-intake", "Receive chunks and acknowledge them.")
    add_ready_file(parser)
    parser.add_argument(
        "--workers",
        type=_positive,
        default=1,
        metavar="N",
        help="number of processes that share the port, each with its own metrics port (default: 1)",
    )
    parser.add_argument(
        "--metrics-targets",
        type=Path,
        metavar="FILE",
        help="write the metrics addresses to FILE, for Prometheus file-based service discovery",
    )
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)  # only for workers
    return run_command(parser, arguments, _main)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError("must be a whole number of at least 1")
    return int(text)


async def _main(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    if arguments.workers > 1:
        require_separable(settings.row)
        await run_workers(settings, arguments, stop)
        return
    if arguments.parent is not None:
        stop_with_parent(arguments.parent, stop)
    await _serve(settings, arguments, stop)


async def _serve(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    require_separable(settings.row)
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
        addresses = {ADDRESS: settings.intake_address}
        host = await enter(
            hosting(settings, (intake,), addresses, metrics, LocalAuthenticator(), tracing)
        )
        if arguments.metrics_targets is not None:
            metrics_address = str(host.addresses[METRICS])
            await asyncio.to_thread(write_targets, arguments.metrics_targets, [metrics_address])
        await asyncio.to_thread(announce, "intake", host.addresses[ADDRESS], arguments.ready_file)
        await host.serve_until(stop, settings.drain_seconds)
