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

import structlog

from sluice_common.addresses import Address, require_loopback
from sluice_common.configuration import ConfigurationError
from sluice_common.coordination.discard.chunks import DiscardChunkStore
from sluice_common.coordination.memory.ledger import MemoryLedger
from sluice_common.coordination.memory.queue import InProcessQueue
from sluice_common.lifecycle import EXIT_OK, configuration_failed, run_service, serve_until_stopped
from sluice_common.mixtures import CatalogueKind, ChunkTransport, Coordination, Events, Objects
from sluice_common.rpc.interceptors import server_layers
from sluice_common.rpc.server import Health, add_reflection, build_server, listen
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings import SluiceSettings, load_settings, shown_settings
from sluice_common.telemetry.exposition import exposing
from sluice_common.telemetry.logging import configure_logging
from sluice_common.telemetry.metrics import Metrics
from sluice_common.telemetry.tracing import start_tracing
from sluice_intake.bootstrap import IntakeDeps, add_intake
from sluice_intake.drives import DefaultDrives
from sluice_intake.rpc import SERVICE_NAME
from sluice_intake.settings import intake_options

_log = structlog.get_logger(__name__)


def run(arguments: Sequence[str]) -> int:
    """Run the process to its end; returns its exit code."""
    options = _parse(arguments)
    try:
        settings = load_settings()
        if options.show_settings:
            sys.stdout.write(f"{shown_settings(settings)}\n")
            return EXIT_OK
        _check(settings)
    except ConfigurationError as error:
        return configuration_failed(error)
    configure_logging(settings.log_level, settings.log_format)

    async def main(stop: asyncio.Event) -> None:
        await _serve(settings, options.ready_file, stop)

    return run_service(main)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sluice-intake", description="Takes chunks and acknowledges them."
    )
    parser.add_argument(
        "--show-settings", action="store_true", help="print the effective settings and exit"
    )
    parser.add_argument(
        "--ready-file", type=Path, help="write the address here once the service answers"
    )
    return parser.parse_args(arguments)


def _check(settings: SluiceSettings) -> None:
    """Raise `ConfigurationError` for a mixture that this process alone cannot run."""
    if not settings.to_ledger_options().discard_on_accept:
        raise ConfigurationError(
            f"sluice-intake alone does not run the mixture {settings.row.name!r} in this release; "
            "use `sluice serve`, or set "
            f"SLUICE_COORDINATION={Coordination.MEMORY} "
            f"SLUICE_CHUNK_TRANSPORT={ChunkTransport.LOCAL} SLUICE_OBJECTS={Objects.DISCARD} "
            f"SLUICE_EVENTS={Events.OFF} SLUICE_CATALOGUE={CatalogueKind.OFF}"
        )
    require_loopback(
        {
            "SLUICE_INTAKE_ADDRESS": settings.intake_address,
            "SLUICE_METRICS_ADDRESS": settings.metrics_address,
        },
        settings.allow_insecure,
    )


async def _serve(settings: SluiceSettings, ready_file: Path | None, stop: asyncio.Event) -> None:
    metrics = Metrics()
    tracing = start_tracing(
        "sluice-intake",
        socket.gethostname(),
        settings.otlp_endpoint,
        settings.otlp_headers.get_secret_value() if settings.otlp_headers else None,
    )
    health = Health()
    server = build_server(
        settings.to_server_options(),
        (*tracing.interceptors(), server_layers(metrics, LocalAuthenticator())),
    )
    add_intake(server, _dependencies(settings, metrics))
    health.add_to(server)
    if settings.grpc.reflection:
        add_reflection(server, (SERVICE_NAME,))
    address = listen(server, "SLUICE_INTAKE_ADDRESS", settings.intake_address)
    try:
        async with exposing(settings.metrics_address, metrics.registry, lambda: not stop.is_set()):
            await server.start()
            await health.serving((SERVICE_NAME,))
            _log.info("intake.listening", address=str(address))
            await asyncio.to_thread(_announce, address, ready_file)
            await serve_until_stopped(server, health, stop, settings.drain_seconds)
    finally:
        await asyncio.to_thread(tracing.close)


def _dependencies(settings: SluiceSettings, metrics: Metrics) -> IntakeDeps:
    options = intake_options(settings)
    metrics.budget_bytes.set(options.ledger.budget_bytes)
    return IntakeDeps(
        ledger=MemoryLedger(options.ledger),
        chunks=DiscardChunkStore(),
        queue=InProcessQueue(settings.queue.lease_seconds, settings.queue.max_items),
        drives=DefaultDrives(),
        metrics=metrics,
        options=options,
    )


def _announce(address: Address, ready_file: Path | None) -> None:
    """Say where we listen: the port may have been picked just now."""
    sys.stdout.write(f"sluice-intake listens on {address}\n")
    sys.stdout.flush()
    if ready_file is not None:
        ready_file.write_text(f"{address}\n", encoding="utf-8")
