"""One command from its settings to its exit code: the only place that catches every error."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import typer
import uvloop

from sluice_client.cli import exits
from sluice_client.cli.addresses import find_server
from sluice_client.cli.output import STANDARD_OUTPUT, Output
from sluice_client.client import Client
from sluice_client.errors import SluiceError
from sluice_client.options import ClientOptions

Work = Callable[[Client, Output], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Where:
    """--server and --token, as given before or after the name of the command."""

    server: str | None = None
    token: str | None = None

    def or_else(self, other: Where) -> Where:
        return Where(self.server or other.server, self.token or other.token)


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
    token = where.token or os.environ.get("SLUICE_TOKEN") or None
    if token is not None and not (token.isascii() and token.isprintable()):
        raise exits.ConfigurationError(
            "the token contains invalid characters; correct --token or SLUICE_TOKEN"
        )
    return Client(
        addresses.intake,
        token=token,
        options=ClientOptions(repository_target=addresses.repository),
    )
