"""One command from its settings to its exit code: the only place that catches every error."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import typer
import uvloop

from sluice_client.cli import exits
from sluice_client.cli.addresses import find_server
from sluice_client.cli.output import STANDARD_OUTPUT, Output
from sluice_client.cli.security import SecurityArguments, find_security
from sluice_client.client import Client
from sluice_client.errors import SluiceError
from sluice_client.options import ClientOptions
from sluice_client.targets import Target

Work = Callable[[Client, Output], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Where:
    """--server, --token-file and the options of TLS, as given before or after the name of the
    command.
    """

    server: str | None = None
    token_file: str | None = None
    security: SecurityArguments = field(default_factory=SecurityArguments)

    def or_else(self, other: Where) -> Where:
        return Where(
            self.server or other.server, self.token_file or other.token_file, self.security
        )


def run(work: Work, where: Where, *, json_lines: bool = False, resume_hint: str = "") -> None:
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
        code = _failed(out, error)
    raise typer.Exit(code)


def _failed(out: Output, error: Exception) -> int:
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


def _client(where: Where) -> Client:
    addresses = find_server(where.server, os.environ)
    security = find_security(where.security, where.token_file, os.environ)
    is_tls = [
        Target.parse(one).is_tls
        for one in (addresses.intake, addresses.repository)
        if one is not None
    ]
    if where.security.names_files and not any(is_tls):
        raise exits.ConfigurationError(
            f"{addresses.intake} is a plain address, where --ca, --cert and --key have no effect;"
            f" write https://{addresses.intake}"
        )
    return Client(
        addresses.intake,
        token=security.token,
        options=ClientOptions(
            repository_target=addresses.repository,
            tls=security.tls,
            allow_insecure=security.allow_insecure,
        ),
    )
