"""Entry point of the `sluice` command."""

from __future__ import annotations

import io
import os
import sys
from typing import Final

_OF_THE_SERVER: Final = frozenset({"serve", "events", "token", "admin"})


def main() -> None:
    """Run the command line and exit with a code of `exits.py`."""
    _occupy_closed_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that is not UTF-8 gets escapes instead of an encoding error.
        sys.stdout.reconfigure(errors="backslashreplace")
    # This process starts others by fork and exec. gRPC reads the variable on first import; its fork
    # handlers, which serve children that use gRPC, would only write to standard error.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    if len(sys.argv) > 1 and sys.argv[1] in _OF_THE_SERVER:
        # Before the import of the application: a server sets up its process before it imports gRPC,
        # and has no use for the libraries of the command line.
        from sluice_client.cli.commands import serve

        sys.exit(getattr(serve, sys.argv[1])(sys.argv[2:]))
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
