"""The separate repository process: command line and start-up."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from sluice_common.process.command import add_ready_file, announce, run_command, service_parser
from sluice_common.rpc.host import hosting, process_name, traced
from sluice_common.security.opening import open_authenticator
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.metrics import Metrics
from sluice_repository.bootstrap import check_runs_apart, open_work
from sluice_repository.migrate_command import SUBCOMMAND, migrate_main
from sluice_repository.role_set import ALL_ROLES, Role
from sluice_repository.serving import serve_with_roles

ADDRESS: Final = "SLUICE_REPOSITORY_ADDRESS"


def run(arguments: Sequence[str]) -> int:
    """Run the process until it stops and return its exit code.

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
        help=f"roles of this process: {', '.join(Role)} (default: all)",
    )
    add_ready_file(parser)
    subcommands = parser.add_subparsers(dest="command", metavar="")
    subcommands.add_parser(
        SUBCOMMAND, help="migrate the catalogue's database to this release's schema, then exit"
    )
    return run_command(parser, arguments, _main)


def parse_roles(text: str) -> frozenset[Role]:
    """Parse a comma-separated list of roles.

    Raise `ArgumentTypeError` for an unknown or empty name.
    """
    try:
        roles = frozenset(Role(name.strip()) for name in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} names an unknown role; use {', '.join(Role)}"
        ) from None
    return roles


async def _main(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    if arguments.command == SUBCOMMAND:
        await migrate_main(settings, arguments, stop)
        return
    check_runs_apart(settings.row)
    holder = process_name()
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        tracing = await enter(traced(settings, "sluice-repository", holder))
        work = await enter(open_work(settings, arguments.roles, metrics, holder, stop))
        authenticator = await enter(
            open_authenticator(
                settings.auth, metrics.registry, allow_insecure=settings.allow_insecure
            )
        )
        addresses = {ADDRESS: settings.repository_address}
        host = await enter(
            hosting(settings, work.services, addresses, metrics, authenticator, tracing)
        )
        await asyncio.to_thread(
            announce, "repository", host.addresses[ADDRESS], arguments.ready_file
        )
        await serve_with_roles(host, work.roles, work.deps, stop, settings.drain_seconds)
