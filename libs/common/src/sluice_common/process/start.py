"""Preparation of a service's process, before grpc is imported."""

# Import only the standard library and modules that do: `prepare_process` runs before grpc is
# imported, which allocates memory and reads the environment.

from __future__ import annotations

from sluice_common.process.garbage_collection import defer_collections
from sluice_common.process.grpc_environment import set_grpc_environment
from sluice_common.process.malloc import tune_malloc
from sluice_common.process.open_files import raise_open_files


def prepare_process() -> None:
    """Tune malloc, raise the limit of open files, set gRPC's variables, defer collections.

    Call it before anything imports grpc.
    """
    defer_collections()
    raise_open_files()
    tune_malloc()
    set_grpc_environment()
