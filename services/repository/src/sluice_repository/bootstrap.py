"""Composition root of the repository: the only place that constructs its services and roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from sluice_common.backends.coordination import CoordinationPorts, open_redis_coordination
from sluice_common.rpc.host import Service
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import ChunkTransport
from sluice_core.ports import LifecycleLedger
from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_repository.backends import Storage, open_storage
from sluice_repository.deps import RepositoryDeps
from sluice_repository.metrics import RepositoryMetrics
from sluice_repository.role_set import Role
from sluice_repository.rpc.chunk_sink import SERVICE_NAME as SINK_SERVICE
from sluice_repository.rpc.chunk_sink import add_chunk_sink
from sluice_repository.rpc.drives import DriveRegistry
from sluice_repository.rpc.servicer import SERVICE_NAME, RepositoryRpc
from sluice_repository.settings import reader_options, repository_options


@dataclass(frozen=True, slots=True)
class Work:
    """The services and background roles of one repository process.

    `deps` is None without background work (phase 2), and `catalogue` without one.
    """

    services: tuple[Service, ...]
    roles: frozenset[Role] = frozenset()
    deps: RepositoryDeps | None = None
    catalogue: Catalogue | None = None


@asynccontextmanager
async def open_work(
    settings: SluiceSettings,
    roles: frozenset[Role],
    metrics: RepositoryMetrics,
    holder: str,
    stop: asyncio.Event,
) -> AsyncIterator[Work]:
    """Open the backends that the settings select; close them in reverse order.

    Args:
        holder: unique name of this process in claims and leases.
        stop: set when the process must stop.

    Raise `ConfigurationError` for a backend that cannot be used.
    """
    if settings.chunk_transport is ChunkTransport.DIRECT:
        yield Work((_sink_service(settings, metrics, stop),))
        return
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        coordination = await enter(open_redis_coordination(settings, metrics.redis))
        storage = await enter(open_storage(settings, metrics))
        services: tuple[Service, ...] = ()
        if Role.API in roles and storage.catalogue is not None:
            drives = DriveRegistry(
                storage.catalogue, default_bucket=settings.bucket, auto_create=False
            )
            services = (
                repository_service(
                    settings, storage.catalogue, storage.objects, coordination.ledger, drives
                ),
            )
        deps = repository_deps(settings, coordination, storage, metrics, holder)
        yield Work(services, roles - {Role.API}, deps, storage.catalogue)


def repository_deps(
    settings: SluiceSettings,
    coordination: CoordinationPorts,
    storage: Storage,
    metrics: RepositoryMetrics,
    holder: str,
) -> RepositoryDeps:
    """Return the dependencies of this process's background roles."""
    return RepositoryDeps(
        ledger=coordination.ledger,
        chunks=coordination.chunks,
        queue=coordination.queue,
        objects=storage.objects,
        catalogue=storage.catalogue,
        publisher=storage.publisher,
        metrics=metrics,
        holder=holder,
        options=repository_options(settings),
    )


def repository_service(
    settings: SluiceSettings,
    catalogue: Catalogue,
    objects: ObjectStore,
    ledger: LifecycleLedger,
    drives: DriveRegistry,
) -> Service:
    """Return RepositoryService for an `RpcHost` (the role `api`)."""

    def add(server: grpc.aio.Server) -> None:
        rpc = RepositoryRpc(catalogue, objects, ledger, drives, reader_options(settings))
        rpc.add_to(server)

    return Service(SERVICE_NAME, add)


def _sink_service(
    settings: SluiceSettings, metrics: RepositoryMetrics, stop: asyncio.Event
) -> Service:
    def add(server: grpc.aio.Server) -> None:
        add_chunk_sink(server, metrics, stop, settings.limits.max_chunk_bytes)

    return Service(SINK_SERVICE, add)
