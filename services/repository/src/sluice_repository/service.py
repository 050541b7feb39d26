"""The repository process: command line and lifecycle."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from sluice_common.process.command import add_ready_file, announce, run_command, service_parser
from sluice_common.rates.opening import open_rate_limiter
from sluice_common.rpc.host import hosting, process_name, traced
from sluice_common.security.audit import log_refusals, writing_refusals
from sluice_common.security.opening import open_authenticator
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import ChunkTransport, require_separable
from sluice_core.configuration import ConfigurationError
from sluice_repository.admin.command import SUBCOMMAND as ADMIN
from sluice_repository.admin.command import add_admin_command, admin_main
from sluice_repository.bootstrap import open_work
from sluice_repository.metrics import RepositoryMetrics
from sluice_repository.migrate_command import SUBCOMMAND, add_migrate_command, migrate_main
from sluice_repository.role_set import ALL_ROLES, Role
from sluice_repository.serving import serve_with_roles

ADDRESS: Final = "SLUICE_REPOSITORY_ADDRESS"


def run(arguments: Sequence[str]) -> int:
    """Run the process until it stops and return the exit code.

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
    commands = parser.add_subparsers(dest="command", metavar="")
    add_migrate_command(commands)
    add_admin_command(commands)
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


def check_settings(settings: SluiceSettings) -> None:
    """Raise `ConfigurationError` for settings with which a repository cannot run on its own."""
    combination = settings.supported_combination
    require_separable(combination)
    if combination.chunk_transport is ChunkTransport.LOCAL:
        raise ConfigurationError(
            f"in {combination.name!r} bytes are discarded when they are accepted, so a repository "
            "has no work: run `sluice-intake` alone"
        )


async def _main(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    if arguments.command == SUBCOMMAND:
        await migrate_main(settings)
        return
    if arguments.command == ADMIN:
        await admin_main(settings, arguments, stop)
        return
    check_settings(settings)
    holder = process_name()
    metrics = RepositoryMetrics()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        tracing = await enter(traced(settings, "sluice-repository", holder))
        work = await enter(open_work(settings, arguments.roles, metrics, holder, stop))
        limiter = await enter(open_rate_limiter(settings, metrics.registry))
        authenticator = await enter(
            open_authenticator(
                settings.auth,
                metrics.registry,
                allow_insecure=settings.allow_insecure,
                require_strong=not settings.is_development,
            )
        )
        addresses = {ADDRESS: settings.repository_address}
        write = log_refusals if work.catalogue is None else work.catalogue.append_audit
        refusals = await enter(writing_refusals(write, metrics.rpc.audit_dropped))
        registry = metrics.registry
        host = await enter(
            hosting(
                settings,
                work.services,
                addresses,
                registry,
                authenticator,
                tracing,
                limiter,
                refusals,
            )
        )
        await asyncio.to_thread(
            announce, "repository", host.addresses[ADDRESS], arguments.ready_file
        )
        await serve_with_roles(host, work.roles, work.deps, stop, settings.drain_seconds)
