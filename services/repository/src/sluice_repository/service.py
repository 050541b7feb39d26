"""The repository as a process of its own: any set of roles on the backends of the settings."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sluice_common.addresses import Address
from sluice_common.command import run_command, service_parser
from sluice_common.rpc.host import hosting
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.metrics import Metrics
from sluice_common.telemetry.tracing import Tracing, start_tracing
from sluice_repository.bootstrap import Work, check_runs_apart, open_work
from sluice_repository.migrating import SUBCOMMAND, migrate_main
from sluice_repository.roles import ALL_ROLES, Role, run_roles

ADDRESS: Final = "SLUICE_REPOSITORY_ADDRESS"

_RPC_SHARE: Final = 0.6
"""The part of the drain that RPCs in flight get; work in hand gets the rest, after them."""


def run(arguments: Sequence[str]) -> int:
    """Run the process to its end; returns its exit code.

    Args:
        arguments: without the program's name.
    """
    parser = service_parser(
        "sluice-repository", "Stores parts, completes uploads, answers for drives and nodes."
    )
    parser.add_argument(
        "--roles",
        type=parse_roles,
        default=ALL_ROLES,
        metavar="ROLE,…",
        help=f"what this process does: {', '.join(Role)} (all of them if not given)",
    )
    parser.add_argument(
        "--ready-file", type=Path, metavar="FILE", help="write the address here when it answers"
    )
    subcommands = parser.add_subparsers(dest="command", metavar="")
    subcommands.add_parser(
        SUBCOMMAND, help="bring the catalogue's database to this release's schema, and end"
    )
    return run_command(parser, arguments, _main)


def parse_roles(text: str) -> frozenset[Role]:
    """Roles from a comma-separated list; raises ArgumentTypeError for an unknown or empty one."""
    try:
        roles = frozenset(Role(name.strip()) for name in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} names an unknown role; there are {', '.join(Role)}"
        ) from None
    return roles


async def _main(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    if arguments.command == SUBCOMMAND:
        await migrate_main(settings, arguments, stop)
        return
    check_runs_apart(settings.row)
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    headers = settings.otlp_headers.get_secret_value() if settings.otlp_headers else None
    tracing = start_tracing("sluice-repository", holder, settings.otlp_endpoint, headers)
    metrics = Metrics()
    rpc_seconds = settings.drain_seconds * _RPC_SHARE
    try:
        async with open_work(
            settings, arguments.roles, metrics, holder, settings.drain_seconds - rpc_seconds, stop
        ) as work:
            await _serve(settings, work, metrics, tracing, rpc_seconds, arguments.ready_file, stop)
    finally:
        await asyncio.to_thread(tracing.close)


async def _serve(
    settings: SluiceSettings,
    work: Work,
    metrics: Metrics,
    tracing: Tracing,
    rpc_seconds: float,
    ready_file: Path | None,
    stop: asyncio.Event,
) -> None:
    roles_stop = asyncio.Event()
    addresses = {ADDRESS: settings.repository_address}
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(
            hosting(settings, work.services, addresses, metrics, LocalAuthenticator(), tracing)
        )
        await asyncio.to_thread(_announce, host.addresses[ADDRESS], ready_file)
        async with asyncio.TaskGroup() as group:
            if work.deps is not None:
                group.create_task(run_roles(work.roles, work.deps, roles_stop), name="roles")
            await host.serve_until(stop, rpc_seconds)
            # Only now: an upload that completes during the drain still needs its workers.
            roles_stop.set()


def _announce(address: Address, ready_file: Path | None) -> None:
    """Say where we listen: the port may have been picked just now."""
    sys.stdout.write(f"repository  {address}\n")
    sys.stdout.flush()
    if ready_file is not None:
        ready_file.write_text(f"{address}\n", encoding="utf-8")
