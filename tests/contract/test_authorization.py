"""Who may call what: every RPC × scope × role × access × owner × tenant, through real servers.

The table is independent of the one in `sluice_core.access.actions`. An RPC that it lacks fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable
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
from support import rpc_calls
from support.commits import BUCKET
from support.guarded_services import GuardedServices, guarded_services
from support.principals import credentials
from support.rpc_calls import Calls, Place, Target

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


# ------------------------------------------------------------------ the table

WRITE, READ = {Scope.UPLOADS_WRITE}, {Scope.UPLOADS_READ}
NODES_READ, NODES_WRITE = {Scope.NODES_READ}, {Scope.NODES_WRITE}
DRIVES_ADMIN = {Scope.DRIVES_ADMIN}

TABLE = {
    "GetLimits": Line(rpc_calls.get_limits, None, foreign=OK),
    "InitiateUpload": Line(rpc_calls.initiate, WRITE, Role.WRITER),
    "UploadChunk": Line(rpc_calls.upload_chunk, WRITE, Role.WRITER, by_owner=True),
    "UploadStream": Line(rpc_calls.upload_stream, WRITE, Role.WRITER, by_owner=True),
    "CompleteUpload": Line(rpc_calls.complete, WRITE, Role.WRITER, by_owner=True),
    "AbortUpload": Line(rpc_calls.abort, WRITE, Role.WRITER, by_owner=True),
    "GetUploadStatus": Line(rpc_calls.get_status, READ, Role.READER, own=True),
    "WatchUpload": Line(rpc_calls.watch, READ, Role.READER, own=True),
    "ListUploads": Line(rpc_calls.list_uploads, READ, Role.READER, own=True, is_listing=True),
    "CreateDrive": Line(rpc_calls.create_drive, DRIVES_ADMIN, foreign=OK),
    "GetDrive": Line(rpc_calls.get_drive, {Scope.DRIVES_READ, *WRITE, *READ}, Role.READER),
    "ListDrives": Line(rpc_calls.list_drives, {Scope.DRIVES_READ}, Role.READER, is_listing=True),
    "UpdateDrive": Line(rpc_calls.update_drive, DRIVES_ADMIN, Role.OWNER),
    "DeleteDrive": Line(
        rpc_calls.delete_drive, DRIVES_ADMIN, Role.OWNER, passing="DRIVE_NOT_EMPTY"
    ),
    "GrantDrive": Line(rpc_calls.grant, DRIVES_ADMIN, Role.OWNER),
    "RevokeDrive": Line(rpc_calls.revoke, DRIVES_ADMIN, Role.OWNER),
    "ListGrants": Line(rpc_calls.list_grants, DRIVES_ADMIN, Role.OWNER),
    "SetQuota": Line(rpc_calls.set_quota, DRIVES_ADMIN, Role.OWNER),
    "GetUsage": Line(rpc_calls.get_usage, {Scope.DRIVES_READ}, Role.READER),
    "ReserveQuota": Line(rpc_calls.reserve_quota, WRITE, Role.WRITER, by_owner=True),
    "ReleaseQuota": Line(rpc_calls.release_quota, WRITE, Role.WRITER, by_owner=True),
    "GetNode": Line(rpc_calls.get_node, NODES_READ, Role.READER),
    "ListNodes": Line(rpc_calls.list_nodes, NODES_READ, Role.READER),
    "UpdateNode": Line(rpc_calls.update_node, NODES_WRITE, Role.WRITER),
    "DeleteNode": Line(rpc_calls.delete_node, NODES_WRITE, Role.WRITER),
    "ReadNode": Line(rpc_calls.read_node, NODES_READ, Role.READER),
    "GetDownloadUrl": Line(
        rpc_calls.get_download_url, NODES_READ, Role.READER, passing="PRESIGN_UNSUPPORTED"
    ),
    # Only administrators, of their own tenant.
    "ListAuditEntries": Line(rpc_calls.list_audit_entries, set(), foreign=OK),
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


async def test_limited_token_does_not_learn_of_other_drives(tmp_path: Path) -> None:
    """GetDrive refuses those that exist and those that do not alike."""
    async with guarded_services(tmp_path) as services:
        await services.add_drives("acme")
        for limits, scope, expected in (
            (("other",), Scope.DRIVES_READ, NOT_GRANTED),
            ((), Scope.NODES_READ, MISSING_SCOPE),
        ):
            metadata = credentials(Principal("acme", "ann", frozenset({scope}), limits))
            for name in ("open", "none"):
                call = services.repository.GetDrive(
                    rp.GetDriveRequest(name=name), metadata=metadata
                )
                assert await outcome_of(call) == expected


@pytest.mark.parametrize("rpc", ["ReserveQuota", "ReleaseQuota"])
async def test_room_is_of_an_upload_of_the_drive(rpc: str, tmp_path: Path) -> None:
    """Also for administrators. An unknown upload may be about to begin, in any drive; and room in
    another drive than the upload's, which no upload has, may be given back.
    """
    async with guarded_services(tmp_path) as services:
        await services.add_drives("acme")
        known = await services.add_upload("acme", "ann", "open")
        rival = await services.add_upload("rival", "ann", "open")
        request: Any = getattr(rp, f"{rpc}Request")
        call: Any = getattr(services.repository, rpc)

        async def outcome(scope: Scope, drive: str, upload_id: str) -> str:
            metadata = credentials(Principal("acme", "ann", frozenset({scope})))
            return await outcome_of(
                call(request(drive=drive, upload_id=upload_id), metadata=metadata)
            )

        for scope in (ADMIN, Scope.UPLOADS_WRITE):
            assert await outcome(scope, "open", known) == OK
            for unknown in ("u", rival):
                assert await outcome(scope, "open", unknown) == OK
        stray = NOT_GRANTED if rpc == "ReserveQuota" else OK
        assert await outcome(ADMIN, "closed", known) == stray
        assert await outcome(ADMIN, "closed", "u") == OK
        assert await outcome(Scope.UPLOADS_WRITE, "closed", known) == NOT_GRANTED


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
            if rpc == "ListAuditEntries":  # of all drives
                passes = False
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
