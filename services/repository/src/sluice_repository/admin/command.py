"""`sluice-repository admin upload|sweep|verify|drain`: what operators do with the settings of the
services, on the backends themselves."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Final, TypeAlias

from sluice_common.process.lifecycle import EXIT_FAILED
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.redaction import redact
from sluice_common.telemetry.terminal import printable
from sluice_core.access.principal import DEFAULT_TENANT
from sluice_core.errors import SluiceError
from sluice_repository.admin.backends import OpenBackends, open_service_backends
from sluice_repository.admin.drain import drain
from sluice_repository.admin.report import Report
from sluice_repository.admin.sweep import sweep
from sluice_repository.admin.upload import show_upload
from sluice_repository.admin.verify import DriveCheck, VerifyOptions
from sluice_repository.metrics import RepositoryMetrics

SUBCOMMAND: Final = "admin"
_SWEEP: Final = "sweep"

Actions: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_admin_command(commands: Actions) -> None:
    """Add the `admin` command to the parser of the service."""
    parser = commands.add_parser(
        SUBCOMMAND, help="show what an upload waits for, sweep, verify a drive, drain"
    )
    add_actions(parser.add_subparsers(dest="action", metavar="ACTION", required=True))


def add_actions(actions: Actions) -> None:
    """Add the actions of this package to a parser."""
    upload = _add(
        actions,
        "upload",
        "show all that is known of an upload, and what it waits for",
        "Show the ledger's record of an upload, its parts with their leases, its chunks, object,"
        " node and events, and what it waits for. Exits with 1 when nothing knows the upload, or"
        " a backend did not answer. Redis and the catalogue have to be usable at the start.",
    )
    upload.add_argument("upload_id", metavar="UPLOAD_ID", help="id of the upload")
    upload.add_argument("--parts", action="store_true", help="list stored parts too")
    _add(
        actions,
        _SWEEP,
        "do one pass of the sweeper now",
        "Do one pass of the sweeper now: hints at lost work, expiry, clean-up, deletions. It is"
        " safe beside running sweepers. Exits with 1 when some of it failed.",
    )
    verify = _add(
        actions,
        "verify",
        "compare a drive's nodes with their objects",
        "Compare every live node of a drive with its object, and look for objects that nothing has."
        " Thumbnails are not compared. Exits with 1 after a defect or an interruption.",
    )
    verify.add_argument("drive", metavar="DRIVE", help="name of the drive")
    verify.add_argument(
        "--tenant", default=DEFAULT_TENANT, help="tenant of the drive (default: %(default)s)"
    )
    verify.add_argument(
        "--checksum", action="store_true", help="read every object and compare its CRC32C"
    )
    verify.add_argument(
        "--after", default="", metavar="PATH", help="begin after this path, to continue a run"
    )
    drained = _add(
        actions,
        "drain",
        "wait until no work of the repositories is left",
        "Wait until no upload is being completed, no part waits, and every event is published, for"
        " example before the maintenance of a backend. Keep new work away first: scale the intake"
        " and the gateway to 0, and leave the repositories running. Open uploads stay and continue"
        " afterwards. Exits with 1 when something is left at the end of the time.",
    )
    drained.add_argument(
        "--timeout",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="longest wait (default: 600); 0 does not wait for work to end",
    )


async def admin_main(
    settings: SluiceSettings,
    arguments: argparse.Namespace,
    stop: asyncio.Event,
    open_backends: OpenBackends = open_service_backends,
) -> None:
    """Run the action; exit with 1 when it found or left something, or a backend did not answer.

    Raise `ConfigurationError` for backends that cannot be used.
    """
    try:
        is_well = await _run(settings, arguments, stop, open_backends)
    except* SluiceError as errors:
        for error in _each(errors):
            sys.stderr.write(redact(printable(error.operator_message)) + "\n")
        is_well = False
    if not is_well:
        sys.exit(EXIT_FAILED)


async def _run(
    settings: SluiceSettings,
    arguments: argparse.Namespace,
    stop: asyncio.Event,
    open_backends: OpenBackends,
) -> bool:
    metrics = RepositoryMetrics()
    report = Report(json_lines=arguments.json)
    async with open_backends(settings, metrics, arguments.action == _SWEEP) as backends:
        match arguments.action:
            case "upload":
                return await show_upload(
                    backends, report, arguments.upload_id, all_parts=arguments.parts
                )
            case "sweep":
                return await sweep(settings, metrics, backends, report, stop)
            case "verify":
                options = VerifyOptions(
                    arguments.tenant, arguments.drive, arguments.checksum, arguments.after
                )
                return await DriveCheck(backends, report, stop, options).run()
            case "drain":
                return await drain(backends, report, stop, arguments.timeout)
    raise AssertionError(arguments.action)


def _add(actions: Actions, name: str, help_text: str, description: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=help_text, description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.set_defaults(action=name)  # whatever the name of the command that these belong to
    return parser


def _each(errors: BaseExceptionGroup[SluiceError]) -> list[SluiceError]:
    found: list[SluiceError] = []
    for error in errors.exceptions:
        found += _each(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise argparse.ArgumentTypeError("must be a number of seconds, at least 0")
    return seconds
