"""Composition root of the repository: the only place that constructs backends and services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from sluice.repository.v1 import repository_pb2
from sluice.repository.v1.repository_pb2_grpc import add_RepositoryServiceServicer_to_server
from sluice_common.backends.coordination import CoordinationPorts, open_redis_coordination
from sluice_common.backends.publishing import open_publisher
from sluice_common.backends.storage import open_database_catalogue, open_objects
from sluice_common.rpc.host import Service
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.metrics import Metrics
from sluice_core.combinations import ChunkTransport, SupportedCombination, require_separable
from sluice_core.configuration import ConfigurationError
from sluice_core.ports import LifecycleLedger
from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.event_publisher import EventPublisher
from sluice_core.ports.object_store import ObjectStore
from sluice_repository.deps import RepositoryDeps
from sluice_repository.role_set import Role
from sluice_repository.rpc.chunk_sink import SERVICE_NAME as SINK_SERVICE
from sluice_repository.rpc.chunk_sink import add_chunk_sink
from sluice_repository.rpc.drives import DriveRegistry
from sluice_repository.rpc.reader_slots import ReaderOptions
from sluice_repository.rpc.servicer import RepositoryRpc
from sluice_repository.settings import reader_options, repository_options

SERVICE_NAME: str = repository_pb2.DESCRIPTOR.services_by_name["RepositoryService"].full_name


def add_repository(
    server: grpc.aio.Server,
    catalogue: Catalogue,
    objects: ObjectStore,
    ledger: LifecycleLedger,
    drives: DriveRegistry,
    readers: ReaderOptions,
) -> None:
    """Register RepositoryService on `server` (the role `api`).

    The interceptors of `server` set the principal and map errors.
    """
    rpc = RepositoryRpc(catalogue, objects, ledger, drives, readers)
    add_RepositoryServiceServicer_to_server(rpc, server)


def check_runs_apart(row: SupportedCombination) -> None:
    """Raise `ConfigurationError` if the combination has no separate repository process."""
    require_separable(row)
    if row.chunk_transport is ChunkTransport.LOCAL:
        raise ConfigurationError(
            f"in {row.name!r} bytes are discarded when they are accepted, so a repository has no "
            "work: run `sluice-intake` alone"
        )


@dataclass(frozen=True, slots=True)
class Work:
    """The services and background roles of one repository process.

    `deps` is None without background work (phase 2).
    """

    services: tuple[Service, ...]
    roles: frozenset[Role] = frozenset()
    deps: RepositoryDeps | None = None


@asynccontextmanager
async def open_work(
    settings: SluiceSettings,
    roles: frozenset[Role],
    metrics: Metrics,
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
        coordination = await enter(open_redis_coordination(settings, metrics))
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
        yield Work(services, roles - {Role.API}, deps)


@dataclass(frozen=True, slots=True)
class Storage:
    """The destinations of finished uploads and of their events."""

    objects: ObjectStore
    catalogue: Catalogue | None
    publisher: EventPublisher


@asynccontextmanager
async def open_storage(settings: SluiceSettings, metrics: Metrics) -> AsyncIterator[Storage]:
    """Open the object store, the catalogue and the publisher that the settings select.

    Raise `ConfigurationError` for a backend that cannot be used.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        objects = await enter(open_objects(settings, metrics))
        catalogue = await enter(open_database_catalogue(settings))
        yield Storage(objects, catalogue, await enter(open_publisher(settings, metrics)))


def repository_deps(
    settings: SluiceSettings,
    coordination: CoordinationPorts,
    storage: Storage,
    metrics: Metrics,
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
    """Return RepositoryService for an `RpcHost`."""

    def add(server: grpc.aio.Server) -> None:
        add_repository(server, catalogue, objects, ledger, drives, reader_options(settings))

    return Service(SERVICE_NAME, add)


def _sink_service(settings: SluiceSettings, metrics: Metrics, stop: asyncio.Event) -> Service:
    def add(server: grpc.aio.Server) -> None:
        add_chunk_sink(server, metrics, stop, settings.limits.max_chunk_bytes)

    return Service(SINK_SERVICE, add)
