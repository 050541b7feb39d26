"""The `sluice serve` command, also `python -m sluice_standalone`: all services in one process."""

from __future__ import annotations

from sluice_common.process.start import prepare_process

prepare_process()  # before the imports below, which import grpc

import argparse  # noqa: E402
import asyncio  # noqa: E402
import sys  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from pathlib import Path  # noqa: E402

from sluice_common.process.command import run_command, service_parser  # noqa: E402
from sluice_common.settings import SluiceSettings  # noqa: E402
from sluice_standalone import bootstrap  # noqa: E402


def serve(args: list[str]) -> int:
    """Serve until a stop signal; return the exit code.

    Args:
        args: the arguments after `sluice serve` on the command line.
    """
    parser = service_parser("sluice serve", "Serve everything in one process on this machine.")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="directory of all data (SLUICE_DATA_DIR)"
    )
    parser.add_argument(
        "--auth",
        action="store_true",
        help="require tokens; make the key and an administrator's token in the data directory",
    )
    return run_command(parser, args, _main, _overrides, quiet_interrupt=True)


def main() -> int:
    """Run `python -m sluice_standalone [serve] …` and return the exit code."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        arguments = arguments[1:]
    return serve(arguments)


async def _main(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    await bootstrap.serve(settings, stop, own_keys=arguments.auth)


def _overrides(arguments: argparse.Namespace) -> Mapping[str, object]:
    return {"data_dir": arguments.data_dir}


if __name__ == "__main__":
    sys.exit(main())
