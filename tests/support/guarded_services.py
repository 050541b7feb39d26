"""An intake and a repository whose callers are spelled out, with one drive of each kind."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio

from sluice.repository.v1 import repository_pb2 as rp
from sluice.repository.v1.repository_pb2_grpc import RepositoryServiceStub
from sluice.upload.v1 import upload_pb2 as up
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub
from sluice_backends.files.store import FileObjectStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_backends.sql.catalogue import open_catalogue
from sluice_common.security.authentication import Authenticator
from sluice_common.settings.rpc_options import ServerOptions
from sluice_core.access.grants import Access
from sluice_core.access.principal import Principal
from sluice_core.ledger.options import LedgerOptions
from sluice_core.objects.body import BytesBody
from sluice_core.ports import UploadLedger
from sluice_core.ports.catalogue import Catalogue, DrivePolicy
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore
from sluice_core.uploads.ids import new_node_id, new_upload_id
from sluice_core.uploads.model import MIB, NewUpload, ObjectRef
from sluice_intake.drives import CachedDrives, GrpcDrives
from support.catalogue_files import empty_catalogue
from support.commits import BUCKET, finished_upload
from support.intake import refusal, running_intake
from support.principals import SpelledPrincipals, credentials
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

    async def listed_uploads(self, who: Principal) -> set[tuple[str, str]]:
        """Return the drive and the path of each upload that ListUploads shows."""
        answer = await self.intake.ListUploads(up.ListUploadsRequest(), metadata=credentials(who))
        return {(one.drive, one.path) for one in answer.uploads}

    async def listed_drives(self, who: Principal) -> list[str]:
        """Return the names that ListDrives shows."""
        request = rp.ListDrivesRequest()
        answer = await self.repository.ListDrives(request, metadata=credentials(who))
        return [drive.name for drive in answer.drives]


@asynccontextmanager
async def guarded_services(
    folder: Path,
    authenticator: Authenticator | None = None,
    wall_clock: Callable[[], float] = time.time,
    options: ServerOptions | None = None,
) -> AsyncIterator[GuardedServices]:
    """Run both servers. The intake asks the repository for drives over gRPC.

    Args:
        authenticator: of both; by default callers are spelled out in their token.
        wall_clock: Unix seconds, for the expiry of tokens.
        options: of the intake.
    """
    url = await empty_catalogue(folder)
    ledger, clock = MemoryLedger(LedgerOptions()), Minutes()
    who = authenticator or SpelledPrincipals()
    async with (
        open_catalogue(url) as catalogue,
        FileObjectStore(folder / "objects", fsync=False) as objects,
    ):
        await objects.check(BUCKET)
        async with (
            serving(
                catalogue, objects, ledger=ledger, authenticator=who, clock=wall_clock
            ) as repository,
            grpc.aio.insecure_channel(repository.address) as channel,
            running_intake(
                ledger=ledger,
                drives=CachedDrives(GrpcDrives(channel), clock=clock),
                authenticator=who,
                clock=wall_clock,
                server=options,
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


async def refused(call: Awaitable[object]) -> str:
    """Return the reason of a call that must be refused."""
    return (await refusal(call)).reason
