"""The intake as a process of its own, on the backends of the settings."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sluice_common.addresses import Address
from sluice_common.command import run_command, service_parser
from sluice_common.mixtures import check_apart
from sluice_common.rpc.host import Service, hosting
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.metrics import Metrics
from sluice_common.telemetry.tracing import Tracing, start_tracing
from sluice_intake.backends import open_coordination, open_drives
from sluice_intake.bootstrap import IntakeDeps, add_intake
from sluice_intake.rpc import SERVICE_NAME
from sluice_intake.settings import intake_options

ADDRESS: Final = "SLUICE_INTAKE_ADDRESS"


def run(arguments: Sequence[str]) -> int:
    """Run the process to its end; returns its exit code.

    Args:
        arguments: without the program's name.
    """
    parser = service_parser("sluice-intake", "Takes chunks and acknowledges them.")
    parser.add_argument(
        "--ready-file", type=Path, metavar="FILE", help="write the address here when it answers"
    )
    return run_command(parser, arguments, _main)


async def _main(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    check_apart(settings.row)
    headers = settings.otlp_headers.get_secret_value() if settings.otlp_headers else None
    tracing = start_tracing("sluice-intake", socket.gethostname(), settings.otlp_endpoint, headers)
    try:
        await _serve(settings, tracing, arguments.ready_file, stop)
    finally:
        await asyncio.to_thread(tracing.close)


async def _serve(
    settings: SluiceSettings, tracing: Tracing, ready_file: Path | None, stop: asyncio.Event
) -> None:
    options = intake_options(settings)
    metrics = Metrics()
    metrics.budget_bytes.set(options.ledger.budget_bytes)
    async with AsyncExitStack() as stack:
        coordination = await stack.enter_async_context(open_coordination(settings, metrics))
        deps = IntakeDeps(
            ledger=coordination.ledger,
            chunks=coordination.chunks,
            queue=coordination.queue,
            drives=await stack.enter_async_context(open_drives(settings)),
            metrics=metrics,
            options=options,
        )
        intake = Service(SERVICE_NAME, lambda server: add_intake(server, deps))
        addresses = {ADDRESS: settings.intake_address}
        host = await stack.enter_async_context(
            hosting(settings, (intake,), addresses, metrics, LocalAuthenticator(), tracing)
        )
        await asyncio.to_thread(_announce, host.addresses[ADDRESS], ready_file)
        await host.serve_until(stop, settings.drain_seconds)


def _announce(address: Address, ready_file: Path | None) -> None:
    """Say where we listen: the port may have been picked just now."""
    sys.stdout.write(f"intake      {address}\n")
    sys.stdout.flush()
    if ready_file is not None:
        ready_file.write_text(f"{address}\n", encoding="utf-8")
