"""A repository server on a real catalogue and file store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc.aio

from sluice.repository.v1 import repository_pb2 as pb
from sluice.repository.v1.repository_pb2_grpc import RepositoryServiceStub
from sluice_backends.files.store import FileObjectStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_backends.sql.catalogue import open_catalogue
from sluice_common.rpc.errors import from_rpc_error
from sluice_common.rpc.interceptors import server_layers
from sluice_common.rpc.server import build_server
from sluice_common.security.audit import RefusalSink
from sluice_common.security.authentication import Authenticator
from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core.access.principal import Principal
from sluice_core.errors import Unauthenticated
from sluice_core.ledger.options import LedgerOptions
from sluice_core.objects.body import BytesBody
from sluice_core.ports import UploadLedger
from sluice_core.ports.catalogue import Catalogue, DrivePolicy, NodeCommit
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore
from sluice_repository.rpc.drives import DriveRegistry
from sluice_repository.rpc.reader_slots import ReaderOptions
from sluice_repository.rpc.servicer import RepositoryRpc
from support.catalogue_files import empty_catalogue
from support.commits import BUCKET, DRIVE, TENANT, finished_upload

if TYPE_CHECKING:  # a name that only the type stubs have
    from sluice.repository.v1.repository_pb2_grpc import RepositoryServiceAsyncStub

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Repository:
    """A running server, its ports, and a tenant's client."""

    catalogue: Catalogue
    objects: ObjectStore
    stub: RepositoryServiceAsyncStub
    address: str
    tenant: str = TENANT

    def of(self, tenant: str) -> Repository:
        """Return a client of another tenant."""
        return replace(self, tenant=tenant)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", self.tenant),)

    async def store(self, path: str, content: bytes = b"hello") -> NodeCommit:
        """Create a node with its object, as an upload does."""
        commit = finished_upload(path, content=content)
        await self.objects.put(commit.object, BytesBody(content), ObjectAttributes())
        await self.catalogue.commit_node(commit)
        return commit

    async def read(self, request: pb.ReadNodeRequest) -> list[pb.ReadNodeResponse]:
        """Return all messages of one ReadNode."""
        try:
            return [m async for m in self.stub.ReadNode(request, metadata=self.metadata)]
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


async def answered(call: Awaitable[T]) -> T:
    """Return the answer; raise a refusal as the `SluiceError` of the server."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


@asynccontextmanager
async def running_repository(folder: Path) -> AsyncIterator[Repository]:
    """Run a server with one drive; `authorization: TENANT` names the tenant."""
    url = await empty_catalogue(folder)
    async with (
        open_catalogue(url) as catalogue,
        FileObjectStore(folder / "objects", fsync=False) as objects,
    ):
        await catalogue.create_drive(TENANT, DRIVE, BUCKET, "", DrivePolicy())
        await objects.check(BUCKET)
        async with serving(catalogue, objects) as running:
            yield running


@asynccontextmanager
async def serving(
    catalogue: Catalogue,
    objects: ObjectStore,
    readers: ReaderOptions | None = None,
    *,
    ledger: UploadLedger | None = None,
    authenticator: Authenticator | None = None,
    clock: Callable[[], float] = time.time,
    metrics: RpcMetrics | None = None,
    refusals: RefusalSink | None = None,
) -> AsyncIterator[Repository]:
    """Run a server on these adapters, by default on a ledger without uploads; by default
    `authorization: TENANT` names the tenant.
    """
    ledger = ledger or MemoryLedger(LedgerOptions())
    layers = server_layers(
        metrics or RpcMetrics(),
        authenticator or _TenantFromHeader(),
        refusals=refusals,
        clock=clock,
    )
    server = build_server(ServerOptions(), [layers])
    drives = DriveRegistry(catalogue, auto_create=False)
    RepositoryRpc(catalogue, objects, ledger, drives, readers).add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        address = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(address) as channel:
            yield Repository(catalogue, objects, RepositoryServiceStub(channel), address)
    finally:
        await server.stop(None)


class _TenantFromHeader:
    """Accepts `authorization: TENANT` unchecked."""

    async def authenticate(self, authorization: str | None) -> Principal:
        if authorization is None:
            raise Unauthenticated(
                "NO_CREDENTIALS", "The tenant is missing; send it as authorization."
            )
        tenant = authorization.removeprefix("Bearer ")  # the SDK sends it
        return Principal(tenant, "tester", frozenset({"tenant:admin"}))
