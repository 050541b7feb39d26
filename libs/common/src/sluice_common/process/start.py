"""Preparation of a service's process, before grpc is imported."""

# Import only the standard library and modules that do: `prepare_process` runs before grpc is
# imported, which allocates memory and reads the environment.

from __future__ import annotations

from sluice_common.process.grpc_environment import disable_fork_handlers
from sluice_common.process.malloc import tune_malloc


def prepare_process() -> None:
    """Tune malloc and disable gRPC's fork handlers; call it before anything imports grpc."""
    tune_malloc()
    disable_fork_handlers()
