"""Preparation of a service's process, before grpc is imported."""

# Import only the standard library and modules that do: `prepare_process` runs before grpc is
# imported, which allocates memory and reads the environment.

from __future__ import annotations

from sluice_common.process.grpc_environment import set_grpc_environment
from sluice_common.process.malloc import tune_malloc


def prepare_process() -> None:
    """Tune malloc and set gRPC's variables; call it before anything imports grpc."""
    tune_malloc()
    set_grpc_environment()
