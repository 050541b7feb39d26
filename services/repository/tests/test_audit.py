"""The audit log of the repository: what a call leaves in it, and who may list it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from sluice.repository.v1 import repository_pb2 as pb
from sluice_backends.files.store import FileObjectStore
from sluice_backends.sql.catalogue import open_catalogue
from sluice_common.rpc.audit_trail import host_of
from sluice_common.security.audit import writing_refusals
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core.access.audit import AuditEntry
from sluice_core.access.principal import Principal, set_principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import SluiceError
from sluice_core.ports.audit import AuditFilter
from sluice_core.ports.catalogue import Catalogue, DrivePolicy
from sluice_repository.rpc.drives import DriveRegistry
from support.catalogue_files import empty_catalogue
from support.commits import BUCKET, DRIVE, TENANT, finished_upload
from support.principals import Metadata, SpelledPrincipals, credentials
from support.repository import answered, serving

if TYPE_CHECKING:  # a name that only the type stubs have
    from sluice.repository.v1.repository_pb2_grpc import RepositoryServiceAsyncStub

ANN = Principal(TENANT, "ann", frozenset(Scope) - {Scope.TENANT_ADMIN})
ADMIN = Principal(TENANT, "boss", frozenset({Scope.TENANT_ADMIN}))
RIVAL = Principal("rival", "eve", frozenset({Scope.TENANT_ADMIN}))
STAFF = pb.Grantee(group="staff")
READ_ONLY = FieldMask(paths=["read_only"])
REQUEST_ID = ("x-request-id", "r-17")


class SigningObjects(FileObjectStore):
    """A store that signs URLs, as S3 does."""

    async def presign_get(self, *_: object) -> str:
        return "https://s3.example/object?signature=secret"


@dataclass(frozen=True, slots=True)
class Audited:
    """A running server. The entries of refusals are written when its block ends."""

    stub: RepositoryServiceAsyncStub
    catalogue: Catalogue

    async def node(self) -> str:
        commit = finished_upload("secret/path.txt")
        await self.catalogue.commit_node(commit)
        return commit.node_id


@pytest.fixture
async def catalogue(tmp_path: Path) -> AsyncIterator[Catalogue]:
    async with open_catalogue(await empty_catalogue(tmp_path)) as catalogue:
        await catalogue.create_drive(TENANT, DRIVE, BUCKET, "", DrivePolicy())
        yield catalogue


@asynccontextmanager
async def running(catalogue: Catalogue, folder: Path) -> AsyncIterator[Audited]:
    async with (
        SigningObjects(folder / "objects", fsync=False) as objects,
        writing_refusals(
            catalogue.append_audit, RpcMetrics().audit_dropped, flush_seconds=1e6
        ) as refusals,
        serving(catalogue, objects, authenticator=SpelledPrincipals(), refusals=refusals) as server,
    ):
        yield Audited(server.stub, catalogue)


async def log_of(catalogue: Catalogue, tenant: str = TENANT) -> Sequence[AuditEntry]:
    """Return the entries of a tenant, oldest first."""
    page = await catalogue.list_audit(tenant, 1000, None, AuditFilter())
    return page.entries[::-1]


def as_(principal: Principal) -> Metadata:
    return (*credentials(principal), REQUEST_ID)


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(SluiceError) as caught:
        await answered(call)
    return caught.value.reason


async def test_every_change_is_recorded(catalogue: Catalogue, tmp_path: Path) -> None:
    """Who, what, on what, from where, in which request; at once, not in a batch."""
    policy = pb.DrivePolicy(access=pb.ACCESS_GRANTS, read_only=True)
    async with running(catalogue, tmp_path) as server:
        stub, node = server.stub, await server.node()
        update = pb.UpdateDriveRequest(name="d", policy=policy)
        update.update_mask.paths.extend(["read_only", "access"])
        calls: list[tuple[Callable[..., Any], Any]] = [
            (stub.CreateDrive, pb.CreateDriveRequest(name="d")),
            (stub.UpdateDrive, update),
            (
                stub.GrantDrive,
                pb.GrantDriveRequest(drive="d", grantee=STAFF, role=pb.ROLE_WRITER),
            ),
            (stub.RevokeDrive, pb.RevokeDriveRequest(drive="d", grantee=STAFF)),
            (stub.DeleteDrive, pb.DeleteDriveRequest(name="d")),
            (stub.UpdateNode, pb.UpdateNodeRequest(node_id=node, metadata={"k": "personal"})),
            (stub.GetDownloadUrl, pb.GetDownloadUrlRequest(node_id=node)),
            (stub.DeleteNode, pb.DeleteNodeRequest(node_id=node)),
        ]
        for call, request in calls:
            await answered(call(request, metadata=as_(ADMIN)))
        entries = await log_of(catalogue)
    assert [(entry.action, entry.object) for entry in entries] == [
        ("CreateDrive", "drive/d"),
        ("UpdateDrive", "drive/d access=grants read_only=true"),
        ("GrantDrive", "drive/d writer group:staff"),
        ("RevokeDrive", "drive/d group:staff"),
        ("DeleteDrive", "drive/d"),
        ("UpdateNode", f"node/{node}"),
        ("GetDownloadUrl", f"node/{node}"),
        ("DeleteNode", f"node/{node}"),
    ]
    origins = {(one.subject, one.outcome, one.request_id, one.peer, one.count) for one in entries}
    assert origins == {("boss", "OK", "r-17", "127.0.0.1", 1)}
    assert len(await log_of(catalogue)) == len(calls), "nothing more when the server stops"


async def test_every_refused_change_is_recorded(catalogue: Catalogue, tmp_path: Path) -> None:
    """By scope, by role, by state, by name: with its reason, and what it named."""
    await catalogue.update_drive(TENANT, DRIVE, DrivePolicy(read_only=True))
    nobody = replace(ANN, scopes=frozenset())
    limited = replace(ANN, drives=("other",))
    async with running(catalogue, tmp_path) as server:
        stub, node = server.stub, await server.node()
        place = pb.NodePath(drive=DRIVE, path="secret/path.txt")
        deletion = pb.DeleteNodeRequest(location=place)
        grant = pb.GrantDriveRequest(drive=DRIVE, grantee=STAFF, role=pb.ROLE_OWNER)
        calls: list[tuple[Callable[..., Any], Any, Principal]] = [
            (stub.CreateDrive, pb.CreateDriveRequest(name="d"), nobody),
            (stub.CreateDrive, pb.CreateDriveRequest(name="d", bucket="!"), ANN),
            (stub.UpdateDrive, pb.UpdateDriveRequest(name="none", update_mask=READ_ONLY), ADMIN),
            (stub.DeleteDrive, pb.DeleteDriveRequest(name=DRIVE), ADMIN),
            (stub.GrantDrive, grant, limited),
            (stub.RevokeDrive, pb.RevokeDriveRequest(drive=DRIVE, grantee=STAFF), limited),
            (stub.UpdateNode, pb.UpdateNodeRequest(node_id=node, if_version=9), ADMIN),
            (stub.DeleteNode, pb.DeleteNodeRequest(node_id=node), ANN),
            (stub.DeleteNode, deletion, limited),
            (stub.DeleteNode, pb.DeleteNodeRequest(node_id="none"), ANN),
            (stub.GetDownloadUrl, pb.GetDownloadUrlRequest(location=place), limited),
            (stub.DeleteNode, pb.DeleteNodeRequest(node_id=node), RIVAL),
        ]
        reasons = [await refused(call(request, metadata=as_(who))) for call, request, who in calls]
        assert not await log_of(catalogue)
    entries = await log_of(catalogue)
    assert [(entry.action, entry.object, entry.outcome) for entry in entries] == [
        ("CreateDrive", "", "MISSING_SCOPE"),
        ("CreateDrive", "drive/d", "BAD_BUCKET"),
        ("UpdateDrive", "drive/none read_only=false", "DRIVE_NOT_FOUND"),
        ("DeleteDrive", f"drive/{DRIVE}", "DRIVE_NOT_EMPTY"),
        ("GrantDrive", f"drive/{DRIVE} owner group:staff", "NOT_GRANTED"),
        ("RevokeDrive", f"drive/{DRIVE} group:staff", "NOT_GRANTED"),
        ("UpdateNode", f"node/{node}", "VERSION_CONFLICT"),
        ("DeleteNode", f"node/{node}", "DRIVE_READ_ONLY"),
        ("DeleteNode", f"drive/{DRIVE}", "NOT_GRANTED"),
        ("DeleteNode", "node/none", "NODE_NOT_FOUND"),
        ("GetDownloadUrl", f"drive/{DRIVE}", "NOT_GRANTED"),
    ]
    (foreign,) = await log_of(catalogue, "rival")
    assert [*(entry.outcome for entry in entries), foreign.outcome] == reasons
    assert (foreign.subject, foreign.object) == ("eve", f"node/{node}")
    assert {entry.request_id for entry in entries} == {"r-17"}


async def test_a_refused_policy_is_recorded_without_texts(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    """What a caller asked for, but no text that is not checked."""
    bad = pb.DrivePolicy(access=pb.ACCESS_TENANT, storage_class="canary x", encryption="canary")
    unknown = pb.DrivePolicy(access=99)  # type: ignore[arg-type]
    mask = FieldMask(paths=["access", "canary", "encryption", "storage_class"])
    async with running(catalogue, tmp_path) as server:
        requests = [
            pb.UpdateDriveRequest(name=DRIVE, policy=bad, update_mask=mask),
            pb.UpdateDriveRequest(name=DRIVE, policy=unknown),
            pb.UpdateDriveRequest(name=DRIVE, policy=bad),
            pb.UpdateDriveRequest(name="canary x", policy=bad),
        ]
        reasons = [
            await refused(server.stub.UpdateDrive(request, metadata=as_(ADMIN)))
            for request in requests
        ]
    entries = await log_of(catalogue)
    assert [entry.object for entry in entries] == [
        f"drive/{DRIVE} access=tenant encryption storage_class",
        f"drive/{DRIVE}",
        f"drive/{DRIVE} access=tenant drop_location=false encryption integrity=sha256_async"
        " part_bytes=0 read_only=false require_uniform=false storage_class",
        "",
    ]
    assert [entry.outcome for entry in entries] == reasons
    assert "canary" not in repr(entries)


async def test_the_owner_of_a_closed_drive_is_recorded(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    """Creating or closing a drive grants the caller a role; an administrator needs none."""
    closed = pb.DrivePolicy(access=pb.ACCESS_GRANTS)
    async with running(catalogue, tmp_path) as server:
        stub = server.stub
        for name, who in (("a", ANN), ("b", ADMIN)):
            create = pb.CreateDriveRequest(name=name, policy=closed)
            await answered(stub.CreateDrive(create, metadata=as_(who)))
        update = pb.UpdateDriveRequest(name=DRIVE, policy=closed)
        await answered(stub.UpdateDrive(update, metadata=as_(ANN)))
    entries = await log_of(catalogue)
    assert [(one.subject, one.action, one.object) for one in entries] == [
        ("ann", "CreateDrive", "drive/a access=grants"),
        ("ann", "GrantDrive", "drive/a owner subject:ann"),
        ("boss", "CreateDrive", "drive/b access=grants"),
        ("ann", "UpdateDrive", f"drive/{DRIVE} access=grants"),
        ("ann", "GrantDrive", f"drive/{DRIVE} owner subject:ann"),
    ]
    assert {one.request_id for one in entries} == {"r-17"}


async def test_refused_tokens_belong_to_no_tenant(catalogue: Catalogue, tmp_path: Path) -> None:
    """Whatever they were sent with. No tenant's administrator sees them."""
    async with running(catalogue, tmp_path) as server:
        for _ in range(3):
            assert await refused(server.stub.GetNode(pb.GetNodeRequest())) == "NO_CREDENTIALS"
        two = (*credentials(ANN), *credentials(ADMIN))
        call = server.stub.DeleteDrive(pb.DeleteDriveRequest(name=DRIVE), metadata=two)
        assert await refused(call) == "AMBIGUOUS_CREDENTIALS"
    entries = await log_of(catalogue, "")
    assert [(one.action, one.object, one.outcome, one.count) for one in entries] == [
        ("Authenticate", "", "NO_CREDENTIALS", 3),
        ("Authenticate", "", "AMBIGUOUS_CREDENTIALS", 1),
    ]
    assert {(one.subject, one.peer) for one in entries} == {("", "127.0.0.1")}
    assert not await log_of(catalogue)


async def test_reads_and_failures_leave_no_entry(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure refuses nothing: the same call may succeed later."""
    async with running(catalogue, tmp_path) as server:
        node = await server.node()
        await answered(server.stub.GetNode(pb.GetNodeRequest(node_id=node), metadata=as_(ANN)))
        call = server.stub.GetDrive(pb.GetDriveRequest(name="none"), metadata=as_(ANN))
        assert await refused(call) == "DRIVE_NOT_FOUND"

        async def fail(*_: object, **__: object) -> None:
            raise OSError("gone")

        monkeypatch.setattr(type(catalogue), "delete_node", fail)
        failing = server.stub.DeleteNode(pb.DeleteNodeRequest(node_id=node), metadata=as_(ANN))
        assert await refused(failing) == "INTERNAL"
    assert not [*await log_of(catalogue), *await log_of(catalogue, "")]


async def test_entries_hold_neither_tokens_nor_paths(catalogue: Catalogue, tmp_path: Path) -> None:
    """Nor metadata, signed URLs and invalid names. The subject is the only person's name."""
    canary = "canary"
    async with running(catalogue, tmp_path) as server:
        stub, node = server.stub, await server.node()
        calls: list[Any] = [
            stub.UpdateNode(
                pb.UpdateNodeRequest(node_id=node, metadata={canary: canary}), metadata=as_(ANN)
            ),
            stub.GetDownloadUrl(pb.GetDownloadUrlRequest(node_id=node), metadata=as_(ANN)),
            stub.DeleteNode(
                pb.DeleteNodeRequest(location=pb.NodePath(drive=DRIVE, path=canary)),
                metadata=as_(ANN),
            ),
            stub.DeleteNode(pb.DeleteNodeRequest(node_id=f"{canary}/.."), metadata=as_(ANN)),
            stub.DeleteDrive(pb.DeleteDriveRequest(name=f"{canary} x" * 9), metadata=as_(ADMIN)),
            stub.GrantDrive(
                pb.GrantDriveRequest(
                    drive=DRIVE, role=pb.ROLE_OWNER, grantee=pb.Grantee(subject=f"{canary}\x1b[1m")
                ),
                metadata=as_(ADMIN),
            ),
            stub.GetNode(
                pb.GetNodeRequest(node_id=node),
                metadata=(("authorization", canary), ("authorization", canary)),
            ),
        ]
        for call in calls:
            try:
                await call
            except grpc.aio.AioRpcError:
                continue
    entries = [*await log_of(catalogue), *await log_of(catalogue, "")]
    assert len(entries) == len(calls)
    text = repr(entries)
    for secret in (canary, "secret", "authorization", "https"):
        assert secret not in text


async def test_a_drive_made_by_an_upload_is_recorded(catalogue: Catalogue) -> None:
    """Of the caller whose upload made it, once."""
    set_principal(ANN)
    registry = DriveRegistry(catalogue, auto_create=True)
    for _ in range(2):
        await registry.get(TENANT, "made", create=True)
    (entry,) = await log_of(catalogue)
    assert (entry.subject, entry.action, entry.object) == ("ann", "CreateDrive", "drive/made")


# ------------------------------------------------------------------ ListAuditEntries


async def test_the_log_is_listed_in_pages(catalogue: Catalogue, tmp_path: Path) -> None:
    await catalogue.append_audit(
        [
            AuditEntry(TENANT, f"s{number % 2}", "DeleteNode", occurred_at=1000.0 + number)
            for number in range(5)
        ]
    )
    await catalogue.append_audit([AuditEntry("rival", "s0", "DeleteNode"), AuditEntry("", "", "A")])
    async with running(catalogue, tmp_path) as server:

        async def listed(**wanted: Any) -> list[tuple[int, str]]:
            found: list[tuple[int, str]] = []
            token = ""
            while True:
                request = pb.ListAuditEntriesRequest(page_size=2, page_token=token, **wanted)
                answer = await answered(server.stub.ListAuditEntries(request, metadata=as_(ADMIN)))
                found += [(one.time.seconds, one.subject) for one in answer.entries]
                token = answer.next_page_token
                if not token:
                    return found

        everything = [(1004, "s0"), (1003, "s1"), (1002, "s0"), (1001, "s1"), (1000, "s0")]
        assert await listed() == everything
        assert await listed(subject="s0") == everything[::2]
        assert await listed(action="UpdateNode") == []
        assert (
            await listed(since=Timestamp(seconds=1001), until=Timestamp(seconds=1004))
            == everything[1:4]
        )


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.ListAuditEntriesRequest(action="Nonsense"), "BAD_ACTION"),
        (pb.ListAuditEntriesRequest(subject="s" * 256), "BAD_SUBJECT"),
        (pb.ListAuditEntriesRequest(page_size=-1), "BAD_PAGE_SIZE"),
        (pb.ListAuditEntriesRequest(page_token="eA=="), "BAD_PAGE_TOKEN"),
        (pb.ListAuditEntriesRequest(since=Timestamp(seconds=2**60)), "BAD_TIME"),
        (pb.ListAuditEntriesRequest(until=Timestamp(nanos=-1)), "BAD_TIME"),
    ],
)
async def test_a_bad_listing_is_refused(
    catalogue: Catalogue, tmp_path: Path, request_: pb.ListAuditEntriesRequest, reason: str
) -> None:
    async with running(catalogue, tmp_path) as server:
        call = server.stub.ListAuditEntries(request_, metadata=as_(ADMIN))
        assert await refused(call) == reason


async def test_a_page_token_fits_one_listing(catalogue: Catalogue, tmp_path: Path) -> None:
    await catalogue.append_audit([AuditEntry(TENANT, "s", "DeleteNode")] * 2)
    async with running(catalogue, tmp_path) as server:
        first = await server.stub.ListAuditEntries(
            pb.ListAuditEntriesRequest(page_size=1), metadata=as_(ADMIN)
        )
        request = pb.ListAuditEntriesRequest(page_token=first.next_page_token, subject="s")
        call = server.stub.ListAuditEntries(request, metadata=as_(ADMIN))
        assert await refused(call) == "BAD_PAGE_TOKEN"


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:50000", "10.0.0.1"),
        ("ipv6:[fe80::1]:50000", "fe80::1"),
        ("ipv6:%5B::1%5D:50000", "::1"),
        ("unix:/run/sluice.sock", "unix"),
        ("unix:", "unix"),
        ("", ""),
    ],
)
def test_the_host_of_a_peer_has_no_port(peer: str, host: str) -> None:
    assert host_of(peer) == host
