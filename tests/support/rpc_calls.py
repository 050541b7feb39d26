"""How each RPC of the intake and the repository is called on a thing of a given kind."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sluice.repository.v1 import repository_pb2 as rp
from sluice.upload.v1 import upload_pb2 as up
from sluice_core.access.grants import Access, Role
from sluice_core.access.principal import Principal
from sluice_core.uploads.checksums import crc32c
from support.guarded_services import GuardedServices
from support.intake import Answered, frames_of, read_all
from support.principals import Metadata
from support.sending import send_all

STRANGER = "carl"
"""The subject of uploads that are not the caller's."""


@dataclass(frozen=True, slots=True)
class Target:
    """A thing of the tenant `acme`, and what connects the caller with it."""

    access: Access
    role: Role | None
    is_own: bool
    same_tenant: bool
    by_group: bool

    @property
    def drive(self) -> str:
        return f"{self.access}-{0 if self.role is None else self.role}"

    @property
    def subject(self) -> str:
        """The caller. The grants are given to the subject ann and to the group staff."""
        return "bob" if self.by_group else "ann"

    def principal(self, *scopes: str) -> Principal:
        groups = frozenset({"staff"}) if self.by_group else frozenset[str]()
        tenant = "acme" if self.same_tenant else "rival"
        return Principal(tenant, self.subject, frozenset(scopes), (), groups)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call is made, and the things it is made on."""

    services: GuardedServices
    target: Target
    metadata: Metadata
    numbers: itertools.count[int]

    async def upload(self) -> str:
        subject = self.target.subject if self.target.is_own else STRANGER
        return await self.services.add_upload("acme", subject, self.target.drive)

    async def node(self) -> tuple[str, str]:
        """Return the path and the id of a new node."""
        path = f"n{next(self.numbers)}"
        return path, await self.services.add_node("acme", self.target.drive, path)


Calls = Callable[[Place], AsyncIterator[Awaitable[object]]]


async def get_limits(at: Place) -> AsyncIterator[Awaitable[object]]:
    yield at.services.intake.GetLimits(up.GetLimitsRequest(), metadata=at.metadata)


async def initiate(at: Place) -> AsyncIterator[Awaitable[object]]:
    for inline in (None, b"hello"):
        request = up.InitiateUploadRequest(drive=at.target.drive, path="new", inline_data=inline)
        yield at.services.intake.InitiateUpload(request, metadata=at.metadata)


async def upload_chunk(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = up.UploadChunkRequest(upload_id=await at.upload(), data=b"x", crc32c=crc32c(b"x"))
    yield at.services.intake.UploadChunk(request, metadata=at.metadata)


async def upload_stream(at: Place) -> AsyncIterator[Awaitable[object]]:
    upload_id = await at.upload()

    async def run() -> None:
        stream: Any = at.services.intake.UploadStream
        call, answered = stream(metadata=at.metadata), Answered()
        await send_all(call, frames_of(upload_id, 0, b"x"))
        error = await read_all(call, answered)
        if error is not None:
            raise error
        assert answered.numbers == [0]

    yield run()


async def complete(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = up.CompleteUploadRequest(upload_id=await at.upload(), total_chunks=0)
    yield at.services.intake.CompleteUpload(request, metadata=at.metadata)


async def abort(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = up.AbortUploadRequest(upload_id=await at.upload())
    yield at.services.intake.AbortUpload(request, metadata=at.metadata)


async def get_status(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = up.GetUploadStatusRequest(upload_id=await at.upload())
    yield at.services.intake.GetUploadStatus(request, metadata=at.metadata)


async def watch(at: Place) -> AsyncIterator[Awaitable[object]]:
    upload_id = await at.upload()

    async def run() -> None:
        watching: Any = at.services.intake.WatchUpload(
            up.WatchUploadRequest(upload_id=upload_id), metadata=at.metadata
        )
        assert (await watching.read()).status.upload_id == upload_id
        watching.cancel()

    yield run()


async def list_uploads(at: Place) -> AsyncIterator[Awaitable[object]]:
    upload_id = await at.upload()

    async def run() -> None:
        answer = await at.services.intake.ListUploads(
            up.ListUploadsRequest(page_size=1000), metadata=at.metadata
        )
        if upload_id not in {one.upload_id for one in answer.uploads}:
            raise LookupError

    yield run()


async def create_drive(at: Place) -> AsyncIterator[Awaitable[object]]:
    for access in (rp.ACCESS_UNSPECIFIED, rp.ACCESS_TENANT, rp.ACCESS_GRANTS):
        request = rp.CreateDriveRequest(
            name=f"made-{next(at.numbers)}", policy=rp.DrivePolicy(access=access)
        )
        yield at.services.repository.CreateDrive(request, metadata=at.metadata)


async def get_drive(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.GetDriveRequest(name=at.target.drive)
    yield at.services.repository.GetDrive(request, metadata=at.metadata)


async def list_drives(at: Place) -> AsyncIterator[Awaitable[object]]:
    async def run() -> None:
        answer = await at.services.repository.ListDrives(
            rp.ListDrivesRequest(page_size=1000), metadata=at.metadata
        )
        if at.target.drive not in {one.name for one in answer.drives}:
            raise LookupError

    yield run()


async def update_drive(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.UpdateDriveRequest(name=at.target.drive)
    request.update_mask.paths.append("drop_location")
    yield at.services.repository.UpdateDrive(request, metadata=at.metadata)


async def delete_drive(at: Place) -> AsyncIterator[Awaitable[object]]:
    await at.node()
    request = rp.DeleteDriveRequest(name=at.target.drive)
    yield at.services.repository.DeleteDrive(request, metadata=at.metadata)


ZOE = rp.Grantee(subject="zoe")


async def grant(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.GrantDriveRequest(drive=at.target.drive, grantee=ZOE, role=rp.ROLE_READER)
    yield at.services.repository.GrantDrive(request, metadata=at.metadata)


async def revoke(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.RevokeDriveRequest(drive=at.target.drive, grantee=ZOE)
    yield at.services.repository.RevokeDrive(request, metadata=at.metadata)


async def list_grants(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.ListGrantsRequest(drive=at.target.drive)
    yield at.services.repository.ListGrants(request, metadata=at.metadata)


async def get_node(at: Place) -> AsyncIterator[Awaitable[object]]:
    path, node_id = await at.node()
    place = rp.NodePath(drive=at.target.drive, path=path)
    for request in (rp.GetNodeRequest(node_id=node_id), rp.GetNodeRequest(location=place)):
        yield at.services.repository.GetNode(request, metadata=at.metadata)


async def list_nodes(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.ListNodesRequest(drive=at.target.drive)
    yield at.services.repository.ListNodes(request, metadata=at.metadata)


async def update_node(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.UpdateNodeRequest(node_id=(await at.node())[1], metadata={"a": "b"})
    yield at.services.repository.UpdateNode(request, metadata=at.metadata)


async def delete_node(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.DeleteNodeRequest(node_id=(await at.node())[1])
    yield at.services.repository.DeleteNode(request, metadata=at.metadata)
    place = rp.NodePath(drive=at.target.drive, path=(await at.node())[0])
    request = rp.DeleteNodeRequest(location=place)
    yield at.services.repository.DeleteNode(request, metadata=at.metadata)


async def read_node(at: Place) -> AsyncIterator[Awaitable[object]]:
    path, node_id = await at.node()
    place = rp.NodePath(drive=at.target.drive, path=path)

    async def run(request: rp.ReadNodeRequest) -> None:
        answers = at.services.repository.ReadNode(request, metadata=at.metadata)
        assert b"".join([one.data async for one in answers]) == b"hello"

    for request in (rp.ReadNodeRequest(node_id=node_id), rp.ReadNodeRequest(location=place)):
        yield run(request)


async def get_download_url(at: Place) -> AsyncIterator[Awaitable[object]]:
    path, node_id = await at.node()
    place = rp.NodePath(drive=at.target.drive, path=path)
    requests = (
        rp.GetDownloadUrlRequest(node_id=node_id),
        rp.GetDownloadUrlRequest(location=place),
    )
    for request in requests:
        yield at.services.repository.GetDownloadUrl(request, metadata=at.metadata)


async def list_audit_entries(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.ListAuditEntriesRequest()
    yield at.services.repository.ListAuditEntries(request, metadata=at.metadata)


async def set_quota(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.SetQuotaRequest(drive=at.target.drive, quota=rp.Quota(max_nodes=10_000))
    yield at.services.repository.SetQuota(request, metadata=at.metadata)


async def get_usage(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.GetUsageRequest(drive=at.target.drive)
    yield at.services.repository.GetUsage(request, metadata=at.metadata)


async def reserve_quota(at: Place) -> AsyncIterator[Awaitable[object]]:
    drive, upload_id = at.target.drive, await at.upload()
    request = rp.ReserveQuotaRequest(drive=drive, upload_id=upload_id, bytes=5)
    yield at.services.repository.ReserveQuota(request, metadata=at.metadata)


async def release_quota(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.ReleaseQuotaRequest(drive=at.target.drive, upload_id=await at.upload())
    yield at.services.repository.ReleaseQuota(request, metadata=at.metadata)
