"""An intake and a repository whose callers are spelled out, with one drive of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio

from sluice.repository.v1.repository_pb2_grpc import RepositoryServiceStub
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub
from sluice_backends.files.store import FileObjectStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_backends.sql.catalogue import open_catalogue
from sluice_backends.sql.migrate import migrate
from sluice_core.access.grants import Access
from sluice_core.ledger.options import LedgerOptions
from sluice_core.objects.body import BytesBody
from sluice_core.ports import UploadLedger
from sluice_core.ports.catalogue import Catalogue, DrivePolicy
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore
from sluice_core.uploads.ids import new_node_id, new_upload_id
from sluice_core.uploads.model import MIB, NewUpload, ObjectRef
from sluice_intake.drives import CachedDrives, GrpcDrives
from support.commits import BUCKET, finished_upload
from support.intake import running_intake
from support.principals import SpelledPrincipals
from support.repository import serving

if TYPE_CHECKING:  # names that only the type stubs have
    from sluice.repository.v1.repository_pb2_grpc import RepositoryServiceAsyncStub
    from sluice.upload.v1.upload_pb2_grpc import IntakeServiceAsyncStub

OPEN, CLOSED = "open", "closed"
"""A drive of each access, in every tenant of `GuardedServices.add_drives`."""


class Minutes:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass(frozen=True, slots=True)
class GuardedServices:
    """Two servers, as separate processes have them, and their ports."""

    intake: IntakeServiceAsyncStub
    repository: RepositoryServiceAsyncStub
    catalogue: Catalogue
    objects: ObjectStore
    ledger: UploadLedger
    clock: Minutes
    """The clock of the intake's cache of drives."""

    async def add_drives(self, tenant: str) -> None:
        for name, access in ((OPEN, Access.TENANT), (CLOSED, Access.GRANTS)):
            await self.catalogue.create_drive(tenant, name, BUCKET, "", DrivePolicy(access=access))

    async def add_upload(
        self, tenant: str, subject: str, drive: str, path: str = "u", *, total: int | None = None
    ) -> str:
        """Open an upload, as InitiateUpload does, and return its id."""
        node_id = new_node_id()
        upload_id = new_upload_id(self.ledger.nonce, tenant, "")
        await self.ledger.create(
            NewUpload(
                upload_id=upload_id,
                node_id=node_id,
                tenant=tenant,
                subject=subject,
                drive=drive,
                path=path,
                content_type="text/plain",
                fingerprint="f",
                object=ObjectRef(BUCKET, f"{tenant}/{drive}/{node_id}"),
                part_bytes=8 * MIB,
            )
        )
        return upload_id

    async def add_node(self, tenant: str, drive: str, path: str) -> str:
        """Create a node with its object, as an upload does, and return its id."""
        commit = replace(finished_upload(path, tenant=tenant, drive=drive), content_type="text/x")
        await self.objects.put(commit.object, BytesBody(b"hello"), ObjectAttributes())
        await self.catalogue.commit_node(commit)
        return commit.node_id


@asynccontextmanager
async def guarded_services(folder: Path) -> AsyncIterator[GuardedServices]:
    """Run both servers. The intake asks the repository for drives over gRPC."""
    url = f"sqlite:///{folder / 'catalogue.db'}"
    await migrate(url)
    ledger, clock, who = MemoryLedger(LedgerOptions()), Minutes(), SpelledPrincipals()
    async with (
        open_catalogue(url) as catalogue,
        FileObjectStore(folder / "objects", fsync=False) as objects,
    ):
        await objects.check(BUCKET)
        async with (
            serving(catalogue, objects, ledger=ledger, authenticator=who) as repository,
            grpc.aio.insecure_channel(repository.address) as channel,
            running_intake(
                ledger=ledger,
                drives=CachedDrives(GrpcDrives(channel), clock=clock),
                authenticator=who,
            ) as intake,
            grpc.aio.insecure_channel(intake.address) as to_intake,
        ):
            yield GuardedServices(
                IntakeServiceStub(to_intake),
                RepositoryServiceStub(channel),
                catalogue,
                objects,
                ledger,
                clock,
            )
