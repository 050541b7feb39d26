"""What the command lines of all services have in common."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from sluice_common.process.lifecycle import EXIT_OK, configuration_failed, run_service
from sluice_common.settings import SluiceSettings, load_settings, shown_settings
from sluice_common.telemetry.logging import configure_logging
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError

Overrides = Callable[[argparse.Namespace], Mapping[str, object]]
ServiceMain = Callable[
    [SluiceSettings, argparse.Namespace, asyncio.Event], Coroutine[Any, Any, None]
]


def no_overrides(_arguments: argparse.Namespace) -> Mapping[str, object]:
    return {}


def service_parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser with the arguments that every service takes."""
    parser = argparse.ArgumentParser(
        program,
        description=description,
        epilog="Everything else is set by environment variables, see --show-settings.",
    )
    parser.add_argument(
        "--show-settings", action="store_true", help="print the effective settings and exit"
    )
    return parser


def add_ready_file(parser: argparse.ArgumentParser) -> None:
    """--ready-file, for whoever starts a service with port 0 and has to find it."""
    parser.add_argument(
        "--ready-file", type=Path, metavar="FILE", help="write the address here when it answers"
    )


def announce(service: str, address: Address, ready_file: Path | None) -> None:
    """Say where a service listens: the port may have been picked just now. Blocking."""
    sys.stdout.write(f"{service:<11} {address}\n")
    sys.stdout.flush()
    if ready_file is not None:
        ready_file.write_text(f"{address}\n", encoding="utf-8")


def run_command(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    main: ServiceMain,
    overrides: Overrides = no_overrides,
    *,
    quiet_interrupt: bool = False,
) -> int:
    """Parse, load the settings, set up logging, run `main`; returns the exit code.

    Args:
        arguments: without the program's name.
        overrides: settings that the command line gives; they win over the environment.
        quiet_interrupt: as `run_service` says.
    """
    parsed = parser.parse_args(arguments)
    try:
        settings = load_settings(**overrides(parsed))
    except ConfigurationError as error:
        return configuration_failed(error)
    if parsed.show_settings:
        sys.stdout.write(shown_settings(settings) + "\n")
        return EXIT_OK
    configure_logging(settings.log_level, settings.log_format)
    return run_service(lambda stop: main(settings, parsed, stop), quiet_interrupt=quiet_interrupt)
