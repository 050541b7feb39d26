"""`sluice-gateway user`: what an operator does about an account, on the catalogue's database."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from typing import Final, NoReturn

from sluice_backends.sql.catalogue import open_catalogue
from sluice_common.backends.opening import as_configuration_error
from sluice_common.backends.storage import catalogue_database
from sluice_common.process.lifecycle import EXIT_FAILED
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.terminal import printable
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import InvalidArgument, SluiceError
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.users import User
from sluice_gateway.auth.names import check_password, normalize_email
from sluice_gateway.auth.operators import disable_user, enable_user, end_sessions, set_password
from sluice_gateway.auth.passwords import Passwords
from sluice_gateway.metrics import AccountMetrics
from sluice_gateway.settings import gateway_options

SUBCOMMAND: Final = "user"
EXIT_USAGE: Final = 2
_PASSWORD: Final = "password"

_Command = Callable[[GatewayCatalogue, str], Awaitable[User]]
_COMMANDS: Final[dict[str, tuple[_Command | None, str, str]]] = {
    "disable": (
        disable_user,
        "refuse the user's log-ins and end their sessions",
        "disabled, all sessions have ended",
    ),
    "enable": (enable_user, "accept the user's log-ins again", "enabled"),
    "end-sessions": (end_sessions, "end all sessions of the user", "all sessions have ended"),
    _PASSWORD: (
        None,
        "set a new password, which is read from the terminal or standard input, and end all "
        "sessions of the user",
        "has the new password, all sessions have ended",
    ),
}
"""By name: the command, its help, and what it reports."""


def add_user_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `user` command to the parser of the service."""
    parser = commands.add_parser(
        SUBCOMMAND, help="disable or enable a user, end their sessions, set their password"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (_, help_text, _) in _COMMANDS.items():
        actions.add_parser(name, help=help_text).add_argument("email", metavar="EMAIL")


def asked_password(arguments: argparse.Namespace) -> str:
    """Return the new password, if the command sets one: from the terminal, else from a line of
    standard input, so that it is in no list of processes. Blocking.

    Exit with 2 if two answers differ, or there is none.
    """
    if arguments.command != SUBCOMMAND or arguments.action != _PASSWORD:
        return ""
    if sys.stdin is not None and sys.stdin.isatty():
        password = getpass.getpass("New password: ")
        if getpass.getpass("Again: ") != password:
            _fail("the answers differ; run the command again", EXIT_USAGE)
        return password
    line = "" if sys.stdin is None else sys.stdin.readline()
    if not line.rstrip("\r\n"):
        _fail("standard input has no password; write it on a line of its own", EXIT_USAGE)
    return line.rstrip("\r\n")


async def user_main(settings: SluiceSettings, arguments: argparse.Namespace, password: str) -> None:
    """Run the command and print what was done.

    Exit with 2 for an invalid email or password, with 1 when the user is unknown or the database
    does not answer. Raise `ConfigurationError` when there are no accounts here, or the database
    cannot be used.
    """
    database = catalogue_database(settings)
    if database is None:
        raise ConfigurationError(
            "SLUICE_CATALOGUE=off: there is no catalogue with users; set it to mysql or sqlite"
        )
    if not gateway_options(settings, settings.gateway_address).has_accounts:
        raise ConfigurationError(
            "SLUICE_AUTH__ISSUER is another one than this gateway, and has the users: change them "
            "there"
        )
    try:
        async with AsyncExitStack() as stack:
            email = normalize_email(arguments.email)
            secret = check_password(password) if arguments.action == _PASSWORD else b""
            with as_configuration_error(database.setting):
                catalogue = await stack.enter_async_context(
                    open_catalogue(database.url, fsync=settings.fsync)
                )
            command, _, done = _COMMANDS[arguments.action]
            if command is None:
                user = await set_password(catalogue, email, await _hashed(secret))
            else:
                user = await command(catalogue, email)
    except InvalidArgument as error:
        _fail(error.message, EXIT_USAGE)
    except SluiceError as error:
        _fail(error.operator_message, EXIT_FAILED)
    sys.stdout.write(f"{printable(user.email)} ({user.user_id}): {done}\n")


async def _hashed(password: bytes) -> str:
    with closing(Passwords(AccountMetrics().password_seconds)) as passwords:
        return await passwords.hash(password)


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(printable(message) + "\n")
    sys.exit(code)
