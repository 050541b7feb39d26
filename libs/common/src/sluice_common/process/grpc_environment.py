"""What gRPC reads of the environment when it is first imported.

Imports nothing but the standard library: it must run before grpc is imported.
"""

from __future__ import annotations

import os

FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"


def disable_fork_handlers() -> None:
    """Have gRPC install no fork handlers, unless the environment asks for them.

    They are for a process that forks and goes on using gRPC in both halves. Ours start children by
    fork and exec; there the handlers can only give up and write a line to standard error.
    """
    os.environ.setdefault(FORK_SUPPORT, "0")
