"""Shared command line of the services."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from sluice_common.process.lifecycle import EXIT_OK, configuration_failed, run_service
from sluice_common.settings import PREFIX, SluiceSettings, format_settings, load_settings
from sluice_common.settings.secret_policy import secrets_of
from sluice_common.telemetry.logging import configure_logging, log_uncaught_errors
from sluice_common.telemetry.redaction import redact
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError

Overrides = Callable[[argparse.Namespace], Mapping[str, object]]
ServiceMain = Callable[
    [SluiceSettings, argparse.Namespace, asyncio.Event], Coroutine[Any, Any, None]
]


def no_overrides(_arguments: argparse.Namespace) -> Mapping[str, object]:
    return {}


def service_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every service."""
    parser = argparse.ArgumentParser(
        program,
        description=description,
        epilog="All other settings are environment variables; see --show-settings.",
    )
    parser.add_argument(
        "--show-settings", action="store_true", help="print the effective settings and exit"
    )
    return parser


def add_ready_file(parser: argparse.ArgumentParser) -> None:
    """Add --ready-file, with which a starter learns the port of a service on port 0."""
    parser.add_argument(
        "--ready-file",
        type=Path,
        metavar="FILE",
        help="write the address to FILE when the service is ready",
    )


def announce(service: str, address: Address, ready_file: Path | None) -> None:
    """Print the actual address of a service, and write it to the ready file. Blocking."""
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
    """Parse the arguments, load the settings, set up logging and run `main`; return the exit code.

    Args:
        arguments: without the name of the program.
        overrides: settings from the command line; they take precedence over the environment.
        quiet_interrupt: see `run_service`.
    """
    parsed = parser.parse_args(arguments)
    try:
        settings = load_settings(**overrides(parsed))
    except ConfigurationError as error:
        return configuration_failed(error)
    redact.hide(secrets_of(settings, PREFIX))
    if parsed.show_settings:
        sys.stdout.write(format_settings(settings) + "\n")
        return EXIT_OK
    configure_logging(settings.log_level, settings.log_format)
    log_uncaught_errors()
    return run_service(lambda stop: main(settings, parsed, stop), quiet_interrupt=quiet_interrupt)
