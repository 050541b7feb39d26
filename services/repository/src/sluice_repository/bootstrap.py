"""Puts the repository's RPCs together, and says which process can hold which roles."""

from __future__ import annotations

import grpc.aio

from sluice.repository.v1 import repository_pb2
from sluice.repository.v1.repository_pb2_grpc import add_RepositoryServiceServicer_to_server
from sluice_common.catalogue.port import Catalogue
from sluice_common.configuration import ConfigurationError
from sluice_common.mixtures import Row
from sluice_common.objects.port import ObjectStore
from sluice_repository.drives import DriveRegistry
from sluice_repository.rpc import RepositoryRpc

SERVICE_NAME: str = repository_pb2.DESCRIPTOR.services_by_name["RepositoryService"].full_name


def add_repository(
    server: grpc.aio.Server, catalogue: Catalogue, objects: ObjectStore, drives: DriveRegistry
) -> None:
    """Serve RepositoryService on `server` (the role `api`); its interceptors set the principal
    and map errors."""
    add_RepositoryServiceServicer_to_server(RepositoryRpc(catalogue, objects, drives), server)


def check_runs_apart(row: Row) -> None:
    """Raise `ConfigurationError` for a mixture whose repository cannot be a process of its own.

    Apart from its intake a repository works on a ledger, chunks and a queue that both reach; the
    backends that this release has are in one process or lock their data directory.
    """
    if row.standalone_only:
        raise ConfigurationError(
            f"the mixture {row.name!r} runs in one process, which has every role: "
            "use `sluice serve`"
        )
    raise ConfigurationError(
        f"in {row.name!r} bytes are discarded when they are accepted, and a repository has nothing "
        "to do: use `sluice-intake`"
    )
