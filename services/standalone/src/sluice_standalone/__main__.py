"""`sluice serve`, and `python -m sluice_standalone`: everything in one process."""

from __future__ import annotations

# Both before grpc is imported: it allocates, and reads the environment.
from sluice_common.process.grpc_environment import disable_fork_handlers
from sluice_common.process.malloc import tune_malloc

tune_malloc()
disable_fork_handlers()

import argparse  # noqa: E402
import asyncio  # noqa: E402
import sys  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from pathlib import Path  # noqa: E402

from sluice_common.process.command import run_command, service_parser  # noqa: E402
from sluice_common.settings import SluiceSettings  # noqa: E402
from sluice_standalone import bootstrap  # noqa: E402


def serve(args: list[str]) -> int:
    """Serve until a signal comes; returns the exit code.

    Args:
        args: what stands behind `sluice serve` on the command line.
    """
    parser = service_parser("sluice serve", "Serve everything in one process on this machine.")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="where everything is kept (SLUICE_DATA_DIR)"
    )
    return run_command(parser, args, _main, _overrides, quiet_interrupt=True)


def main() -> int:
    """`python -m sluice_standalone [serve] …`"""
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        arguments = arguments[1:]
    return serve(arguments)


async def _main(
    settings: SluiceSettings, _arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    await bootstrap.serve(settings, stop)


def _overrides(arguments: argparse.Namespace) -> Mapping[str, object]:
    return {"data_dir": arguments.data_dir}


if __name__ == "__main__":
    sys.exit(main())
