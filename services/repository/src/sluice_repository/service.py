"""The command line of the repository process."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from sluice_common.command import run_command, service_parser
from sluice_common.settings import SluiceSettings
from sluice_repository.bootstrap import check_runs_apart
from sluice_repository.roles import ALL_ROLES, Role


def run(arguments: Sequence[str]) -> int:
    """Run the process to its end; returns its exit code (78: this mixture does not run apart)."""
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
    settings: SluiceSettings, _arguments: argparse.Namespace, _stop: asyncio.Event
) -> None:
    check_runs_apart(settings.row)
