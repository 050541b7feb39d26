"""Entry point of the `sluice` command."""

from __future__ import annotations

import os

# Before grpc is imported: a server starts children by fork and exec, and gRPC's preparations for a
# fork that goes on using it only write to standard error.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from sluice_client.cli.app import app


def main() -> None:
    """Run the command line; exits with the codes of `exits.py`."""
    app(prog_name="sluice")


if __name__ == "__main__":
    main()
