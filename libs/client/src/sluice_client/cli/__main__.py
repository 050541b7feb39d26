"""Entry point of the `sluice` command."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

import typer

from sluice_client.cli.commands.serve import events, serve

_OF_THE_SERVER: Final[Mapping[str, Callable[[list[str]], None]]] = {
    "serve": serve,
    "events": events,
}


def main() -> None:
    """Run the command line; exits with the codes of `exits.py`."""
    _occupy_closed_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that is not UTF-8 gets escapes in place of an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    # What this process starts, it starts by fork and exec. gRPC reads the variable when it is first
    # imported; its handlers for a fork that goes on using gRPC would only write to standard error.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    command = _OF_THE_SERVER.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if command is not None:
        # Before the import below: a server sets its process up before it imports gRPC.
        try:
            command(sys.argv[2:])
        except typer.Exit as done:
            sys.exit(done.exit_code)
    from sluice_client.cli.app import app

    app(prog_name="sluice")


def _occupy_closed_descriptors() -> None:
    """Keep the numbers 0, 1 and 2 from files and sockets that are opened later.

    Python has noticed by now which of its streams are closed: they stay None.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


if __name__ == "__main__":
    main()
