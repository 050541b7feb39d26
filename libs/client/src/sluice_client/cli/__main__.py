"""Entry point of the `sluice` command."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

import typer

from sluice_client.cli.commands.serve import events, serve, token

_OF_THE_SERVER: Final[Mapping[str, Callable[[list[str]], None]]] = {
    "serve": serve,
    "events": events,
    "token": token,
}


def main() -> None:
    """Run the command line and exit with a code of `exits.py`."""
    _occupy_closed_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that is not UTF-8 gets escapes instead of an encoding error.
        sys.stdout.reconfigure(errors="backslashreplace")
    # This process starts others by fork and exec. gRPC reads the variable on first import; its fork
    # handlers, which serve children that use gRPC, would only write to standard error.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    command = _OF_THE_SERVER.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if command is not None:
        # Before the import below: a server sets up its process before it imports gRPC.
        try:
            command(sys.argv[2:])
        except typer.Exit as done:
            sys.exit(done.exit_code)
    # A failed handshake is one line of ours; gRPC would write its own beside it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from sluice_client.cli.app import app

    app(prog_name="sluice")


def _occupy_closed_descriptors() -> None:
    """Keep descriptors 0, 1 and 2 from being reused by files and sockets opened later.

    Python has already detected which of its streams are closed: they stay None.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


if __name__ == "__main__":
    main()
