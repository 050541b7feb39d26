"""Who may call what: every RPC × scope × role × access × owner × tenant, through real servers.

The table is independent of the one in `sluice_core.access.actions`. An RPC that it lacks fails.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from sluice.repository.v1 import repository_pb2 as rp
from sluice.upload.v1 import upload_pb2 as up
from sluice_common.rpc.errors import from_rpc_error
from sluice_core.access.grants import Access, Grantee, GranteeKind, Role
from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import NotFound, SluiceError
from sluice_core.ports.catalogue import DrivePolicy
from sluice_core.ports.quotas import Quota
from sluice_core.uploads.checksums import crc32c
from support.commits import BUCKET
from support.guarded_services import GuardedServices, guarded_services
from support.intake import Answered, frames_of, read_all
from support.principals import Metadata, credentials
from support.sending import send_all

# Size: how each RPC is called, and its line in the table.
SERVICES = (
    up.DESCRIPTOR.services_by_name["IntakeService"],
    rp.DESCRIPTOR.services_by_name["RepositoryService"],
)
RPCS = [method.name for service in SERVICES for method in service.methods]

OK, MISSING_SCOPE, NOT_GRANTED, NOT_FOUND = "OK", "MISSING_SCOPE", "NOT_GRANTED", "NOT_FOUND"
HIDDEN = "HIDDEN"
"""A listing does not show it."""

ADMIN = Scope.TENANT_ADMIN
ROLES = (None, *Role)
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


OWN_TENANT = [
    Target(access, role, is_own, same_tenant=True, by_group=by_group)
    for access, role, is_own, by_group in itertools.product(
        Access, ROLES, (True, False), (True, False)
    )
]
OTHER_TENANT = [
    Target(access, role, is_own, same_tenant=False, by_group=False)
    for access, role, is_own in itertools.product(Access, (None, Role.OWNER), (True, False))
]
STRONGEST = Target(Access.TENANT, Role.OWNER, is_own=True, same_tenant=True, by_group=False)


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


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.

    `scopes`: any of them, beside tenant:admin; None means that no scope is needed. `role`: on a
    closed drive. `by_owner`: only the upload's owner and owners of the drive. `own`: the upload's
    owner needs no role. `calls`: ways to make the call; each must have the same outcome.
    """

    calls: Calls
    scopes: set[Scope] | None = field(default_factory=set)
    role: Role | None = None
    by_owner: bool = False
    own: bool = False
    passing: str = OK
    """The outcome of a call that passes."""
    foreign: str = NOT_FOUND
    """The outcome for a caller of another tenant."""
    is_listing: bool = False

    @property
    def targets(self) -> list[Target]:
        """All targets that differ for this RPC."""
        is_of_uploads = self.by_owner or self.own
        every = [*OWN_TENANT, *OTHER_TENANT]
        return [target for target in every if is_of_uploads or target.is_own]

    def expected(self, target: Target, scope: Scope | None) -> str:
        if self.scopes is not None and scope not in {*self.scopes, ADMIN}:
            return MISSING_SCOPE
        if not target.same_tenant:
            return HIDDEN if self.is_listing else self.foreign
        if scope is ADMIN:
            return self.passing
        refused = HIDDEN if self.is_listing else NOT_GRANTED
        if self.by_owner and not target.is_own and target.role is not Role.OWNER:
            return refused
        if self.role is None or target.access is Access.TENANT or (self.own and target.is_own):
            return self.passing
        return self.passing if (target.role or 0) >= self.role else refused


async def outcome_of(call: Awaitable[object]) -> str:
    try:
        await call
    except LookupError:
        return HIDDEN
    except grpc.aio.AioRpcError as error:
        refusal = from_rpc_error(error)
    except SluiceError as error:
        refusal = error
    else:
        return OK
    return NOT_FOUND if isinstance(refusal, NotFound) else refusal.reason


# ------------------------------------------------------------------ how each RPC is called


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


async def set_quota(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.SetQuotaRequest(drive=at.target.drive, quota=rp.Quota(max_nodes=10_000))
    yield at.services.repository.SetQuota(request, metadata=at.metadata)


async def get_usage(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.GetUsageRequest(drive=at.target.drive)
    yield at.services.repository.GetUsage(request, metadata=at.metadata)


async def reserve_quota(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.ReserveQuotaRequest(drive=at.target.drive, upload_id="u", bytes=5)
    yield at.services.repository.ReserveQuota(request, metadata=at.metadata)


async def release_quota(at: Place) -> AsyncIterator[Awaitable[object]]:
    request = rp.ReleaseQuotaRequest(drive=at.target.drive, upload_id="u")
    yield at.services.repository.ReleaseQuota(request, metadata=at.metadata)


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


# ------------------------------------------------------------------ the table

WRITE, READ = {Scope.UPLOADS_WRITE}, {Scope.UPLOADS_READ}
NODES_READ, NODES_WRITE = {Scope.NODES_READ}, {Scope.NODES_WRITE}
DRIVES_ADMIN = {Scope.DRIVES_ADMIN}

TABLE = {
    "GetLimits": Line(get_limits, None, foreign=OK),
    "InitiateUpload": Line(initiate, WRITE, Role.WRITER),
    "UploadChunk": Line(upload_chunk, WRITE, Role.WRITER, by_owner=True),
    "UploadStream": Line(upload_stream, WRITE, Role.WRITER, by_owner=True),
    "CompleteUpload": Line(complete, WRITE, Role.WRITER, by_owner=True),
    "AbortUpload": Line(abort, WRITE, Role.WRITER, by_owner=True),
    "GetUploadStatus": Line(get_status, READ, Role.READER, own=True),
    "WatchUpload": Line(watch, READ, Role.READER, own=True),
    "ListUploads": Line(list_uploads, READ, Role.READER, own=True, is_listing=True),
    "CreateDrive": Line(create_drive, DRIVES_ADMIN, foreign=OK),
    "GetDrive": Line(get_drive, {Scope.DRIVES_READ, *WRITE, *READ}, Role.READER),
    "ListDrives": Line(list_drives, {Scope.DRIVES_READ}, Role.READER, is_listing=True),
    "UpdateDrive": Line(update_drive, DRIVES_ADMIN, Role.OWNER),
    "DeleteDrive": Line(delete_drive, DRIVES_ADMIN, Role.OWNER, passing="DRIVE_NOT_EMPTY"),
    "GrantDrive": Line(grant, DRIVES_ADMIN, Role.OWNER),
    "RevokeDrive": Line(revoke, DRIVES_ADMIN, Role.OWNER),
    "ListGrants": Line(list_grants, DRIVES_ADMIN, Role.OWNER),
    "SetQuota": Line(set_quota, DRIVES_ADMIN, Role.OWNER),
    "GetUsage": Line(get_usage, {Scope.DRIVES_READ}, Role.READER),
    "ReserveQuota": Line(reserve_quota, WRITE, Role.WRITER),
    "ReleaseQuota": Line(release_quota, WRITE, Role.WRITER),
    "GetNode": Line(get_node, NODES_READ, Role.READER),
    "ListNodes": Line(list_nodes, NODES_READ, Role.READER),
    "UpdateNode": Line(update_node, NODES_WRITE, Role.WRITER),
    "DeleteNode": Line(delete_node, NODES_WRITE, Role.WRITER),
    "ReadNode": Line(read_node, NODES_READ, Role.READER),
    "GetDownloadUrl": Line(
        get_download_url, NODES_READ, Role.READER, passing="PRESIGN_UNSUPPORTED"
    ),
}


@pytest.mark.parametrize("rpc", ["SetQuota", "GetUsage"])
async def test_whole_tenant_needs_its_administrator(rpc: str, tmp_path: Path) -> None:
    """And sees only its own tenant; a token for some drives is not enough."""
    async with guarded_services(tmp_path) as services:
        await services.catalogue.set_quota("rival", "", Quota(max_bytes=7))

        async def outcome(*scopes: Scope, drives: tuple[str, ...] = ()) -> str:
            metadata = credentials(Principal("acme", "ann", frozenset(scopes), drives))
            stub = services.repository
            if rpc == "SetQuota":
                request = rp.SetQuotaRequest(quota=rp.Quota(max_bytes=5))
                return await outcome_of(stub.SetQuota(request, metadata=metadata))
            return await outcome_of(stub.GetUsage(rp.GetUsageRequest(), metadata=metadata))

        assert await outcome(*(scope for scope in Scope if scope is not ADMIN)) == MISSING_SCOPE
        assert await outcome(*Scope, drives=("open",)) == NOT_GRANTED
        assert await outcome(ADMIN) == OK
        assert (await services.catalogue.get_quota("rival", ""))[0] == Quota(max_bytes=7)
        expected = Quota(max_bytes=5) if rpc == "SetQuota" else Quota()
        assert (await services.catalogue.get_quota("acme", ""))[0] == expected


async def add_drives(services: GuardedServices) -> None:
    """Add a drive for each access and role, with the role given to ann and to the staff."""
    grantees = (Grantee(GranteeKind.SUBJECT, "ann"), Grantee(GranteeKind.GROUP, "staff"))
    for access, role in itertools.product(Access, ROLES):
        drive = Target(access, role, is_own=True, same_tenant=True, by_group=False).drive
        await services.catalogue.create_drive("acme", drive, BUCKET, "", DrivePolicy(access=access))
        for grantee in grantees if role is not None else ():
            await services.catalogue.put_grant("acme", drive, grantee, role)


def test_every_rpc_has_a_line() -> None:
    assert set(TABLE) == set(RPCS)


@pytest.mark.parametrize("rpc", RPCS)
async def test_only_permitted_callers_pass(rpc: str, tmp_path: Path) -> None:
    assert rpc in TABLE, f"add a line for {rpc} to the table"
    line, numbers = TABLE[rpc], itertools.count()
    async with guarded_services(tmp_path) as services:
        await add_drives(services)
        wrong: list[str] = []
        for scope in (None, *Scope):
            missing = line.expected(STRONGEST, scope) == MISSING_SCOPE
            for target in [STRONGEST] if missing else line.targets:
                principal = target.principal(*([] if scope is None else [scope]))
                at = Place(services, target, credentials(principal), numbers)
                expected = line.expected(target, scope)
                async for call in line.calls(at):
                    outcome = await outcome_of(call)
                    if outcome != expected:
                        wrong.append(f"{scope} {target}: {outcome} instead of {expected}")
        assert not wrong, "\n".join(wrong[:10])


@pytest.mark.parametrize("rpc", RPCS)
async def test_a_token_for_other_drives_is_refused(rpc: str, tmp_path: Path) -> None:
    """Even with every scope and role: what a token is limited to counts first."""
    line = TABLE[rpc]
    async with guarded_services(tmp_path) as services:
        await add_drives(services)
        for limit, passes in ((STRONGEST.drive, True), ("tenant*", True), ("other", False)):
            principal = Principal("acme", "ann", frozenset(Scope), (limit, "made-1*"))
            numbers = itertools.count(10 if passes else 90)
            at = Place(services, STRONGEST, credentials(principal), numbers)
            refused = HIDDEN if line.is_listing else NOT_GRANTED
            if rpc == "GetLimits":  # of no drive
                refused = OK
            async for call in line.calls(at):
                assert await outcome_of(call) == (line.passing if passes else refused), limit


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
async def test_a_call_without_credentials_is_refused(service: Any, tmp_path: Path) -> None:
    async with guarded_services(tmp_path) as services:
        stub = services.intake if service.name == "IntakeService" else services.repository
        for method in service.methods:
            call: Any = getattr(stub, method.name)
            request = iter(()) if method.client_streaming else _message_of(method)
            answers = call(request)

            async def run(answers: Any = answers, streams: bool = method.server_streaming) -> None:
                if streams:
                    await answers.read()
                else:
                    await answers

            assert await outcome_of(run()) == "NO_CREDENTIALS", method.name


def _message_of(method: Any) -> Any:
    package = up if method.containing_service.name == "IntakeService" else rp
    return getattr(package, method.input_type.name)()
