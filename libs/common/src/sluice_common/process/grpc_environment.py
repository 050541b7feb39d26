"""Environment variables that gRPC reads when it is first imported."""

# Import only the standard library here: this module runs before grpc is imported.

from __future__ import annotations

import os

FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"


def disable_fork_handlers() -> None:
    """Disable gRPC's fork handlers, unless the environment enables them.

    They serve processes that fork and use gRPC on both sides. Ours start children by fork and
    exec, where the handlers only fail with a line on standard error.
    """
    os.environ.setdefault(FORK_SUPPORT, "0")
