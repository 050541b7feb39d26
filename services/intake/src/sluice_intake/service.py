"""The intake as a process of its own: phase 1, memory ledger, bytes discarded on acceptance.

The other mixtures need a coordination that several processes share, or everything in one process
(the standalone).
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sluice_common.addresses import Address
from sluice_common.command import run_command, service_parser
from sluice_common.configuration import ConfigurationError
from sluice_common.coordination.discard.chunks import DiscardChunkStore
from sluice_common.coordination.memory.ledger import MemoryLedger
from sluice_common.coordination.memory.queue import InProcessQueue
from sluice_common.mixtures import CatalogueKind, ChunkTransport, Coordination, Events, Objects
from sluice_common.rpc.host import Service, hosting
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.metrics import Metrics
from sluice_common.telemetry.tracing import Tracing, start_tracing
from sluice_intake.bootstrap import IntakeDeps, add_intake
from sluice_intake.drives import DefaultDrives
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
    _check_mixture(settings)
    headers = settings.otlp_headers.get_secret_value() if settings.otlp_headers else None
    tracing = start_tracing("sluice-intake", socket.gethostname(), settings.otlp_endpoint, headers)
    try:
        await _serve(settings, tracing, arguments.ready_file, stop)
    finally:
        await asyncio.to_thread(tracing.close)


def _check_mixture(settings: SluiceSettings) -> None:
    """Raise `ConfigurationError` for a mixture that this process alone cannot run."""
    if settings.to_ledger_options().discard_on_accept:
        return
    raise ConfigurationError(
        f"sluice-intake alone does not run the mixture '{settings.row.name}' in this release; "
        f"use `sluice serve`, or set SLUICE_COORDINATION={Coordination.MEMORY} "
        f"SLUICE_CHUNK_TRANSPORT={ChunkTransport.LOCAL} SLUICE_OBJECTS={Objects.DISCARD} "
        f"SLUICE_EVENTS={Events.OFF} SLUICE_CATALOGUE={CatalogueKind.OFF}"
    )


async def _serve(
    settings: SluiceSettings, tracing: Tracing, ready_file: Path | None, stop: asyncio.Event
) -> None:
    options = intake_options(settings)
    metrics = Metrics()
    metrics.budget_bytes.set(options.ledger.budget_bytes)
    deps = IntakeDeps(
        ledger=MemoryLedger(options.ledger),
        chunks=DiscardChunkStore(),
        queue=InProcessQueue(settings.queue.lease_seconds, settings.queue.max_items),
        drives=DefaultDrives(),
        metrics=metrics,
        options=options,
    )
    intake = Service(SERVICE_NAME, lambda server: add_intake(server, deps))
    addresses = {ADDRESS: settings.intake_address}
    async with hosting(
        settings, (intake,), addresses, metrics, LocalAuthenticator(), tracing
    ) as host:
        await asyncio.to_thread(_announce, host.addresses[ADDRESS], ready_file)
        await host.serve_until(stop, settings.drain_seconds)


def _announce(address: Address, ready_file: Path | None) -> None:
    """Say where we listen: the port may have been picked just now."""
    sys.stdout.write(f"intake      {address}\n")
    sys.stdout.flush()
    if ready_file is not None:
        ready_file.write_text(f"{address}\n", encoding="utf-8")
