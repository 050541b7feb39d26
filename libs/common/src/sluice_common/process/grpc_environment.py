"""Environment variables that gRPC reads when it is first imported."""

# Import only the standard library here: this module runs before grpc is imported.

from __future__ import annotations

import os

FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
VERBOSITY = "GRPC_VERBOSITY"


def set_grpc_environment() -> None:
    """Set gRPC's variables for a server, unless the environment sets them.

    Its fork handlers serve processes that fork and use gRPC on both sides. Ours start children by
    fork and exec, where the handlers only fail with a line on standard error. Its core would also
    write a line for every failed TLS handshake, which any stranger can cause.
    """
    os.environ.setdefault(FORK_SUPPORT, "0")
    os.environ.setdefault(VERBOSITY, "ERROR")
