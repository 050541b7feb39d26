"""One command from its settings to its exit code: the only place that catches every error."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

import typer
import uvloop

from sluice_client.cli import exits
from sluice_client.cli.addresses import find_server
from sluice_client.cli.arguments import Where
from sluice_client.cli.output import STANDARD_OUTPUT, Output
from sluice_client.cli.security_settings import Security, find_security
from sluice_client.client import Client
from sluice_client.errors import SluiceError
from sluice_client.logins.gateway_api import GatewayApi
from sluice_client.logins.renewal import RenewedToken
from sluice_client.logins.stored_login import LoginFile, config_dir
from sluice_client.options import ClientOptions
from sluice_client.targets import Target

Work = Callable[[Client, Output], Awaitable[int]]


def run(work: Work, where: Where, *, json_lines: bool = False, resume_hint: str = "") -> NoReturn:
    """Run a command on its own event loop and exit with its code.

    Args:
        work: the command; returns its exit code.
        where: the server.
        json_lines: write results as JSON.
        resume_hint: message after Ctrl-C that says how to resume.
    """
    out = Output(json_lines=json_lines)
    terminated = False

    async def supervised() -> int:
        nonlocal terminated
        loop = asyncio.get_running_loop()
        this = asyncio.current_task()
        assert this is not None

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            this.cancel()

        loop.add_signal_handler(signal.SIGTERM, terminate)
        async with _client(where) as client:
            return await work(client, out)

    try:
        code = uvloop.run(supervised())
        if sys.stdout is not None:
            sys.stdout.flush()
    except (KeyboardInterrupt, asyncio.CancelledError):
        out.error("stopped." + (f" {resume_hint}" if resume_hint else ""))
        code = exits.TERMINATED if terminated else exits.INTERRUPTED
    except (SluiceError, exits.ConfigurationError, OSError) as error:
        code = failed(out, error)
    raise typer.Exit(code)


def failed(out: Output, error: Exception) -> int:
    """Report the error that ended the command. Return the exit code."""
    try:
        if isinstance(error, BrokenPipeError) and error.filename in (None, STANDARD_OUTPUT):
            raise error
        out.error(exits.explain(error))
        if sys.stdout is not None:
            out.record(exits.failure_record(error))
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has closed it; without this, Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.BROKEN_PIPE
    return exits.exit_code(error)


def stored_token(servers: list[str], security: Security) -> RenewedToken | None:
    """Return the token of the log-in on this machine; None without one, or for other servers."""
    try:
        file = LoginFile(config_dir(os.environ))
    except FileNotFoundError:
        return None  # a user without a home cannot have logged in
    login = file.load()
    if login is None or not login.is_for(servers):
        return None
    return RenewedToken(
        file, lambda url: GatewayApi(url, security.tls, allow_insecure=security.allow_insecure)
    )


def _client(where: Where) -> Client:
    addresses = find_server(where.server, os.environ)
    security = find_security(where.security, where.token_file, os.environ)
    targets = [
        Target.parse(one) for one in (addresses.intake, addresses.repository) if one is not None
    ]
    if where.security.names_files and not any(target.is_tls for target in targets):
        raise exits.ConfigurationError(
            f"{addresses.intake} is a plain address, where --ca, --cert and --key have no effect;"
            f" write https://{addresses.intake}"
        )
    token = security.token
    if token is None:
        token = stored_token([target.text for target in targets], security)
    return Client(
        addresses.intake,
        token=token,
        options=ClientOptions(
            repository_target=addresses.repository,
            tls=security.tls,
            allow_insecure=security.allow_insecure,
        ),
    )
