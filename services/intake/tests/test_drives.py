"""The drive directory: a cache with stale entries, and its gRPC source."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest
from grpc_status import rpc_status

from sluice.repository.v1 import repository_pb2
from sluice_common.rpc.errors import to_status
from sluice_core.access.grants import Access, Grantee, GranteeKind, Role
from sluice_core.access.principal import Principal, current_authorization, set_principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import (
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SluiceError,
    Unavailable,
)
from sluice_core.ports.catalogue import Drive, DrivePolicy
from sluice_core.ports.drive_with_grants import DriveWithGrants
from sluice_core.uploads.model import Integrity
from sluice_intake.drives import CachedDrives, DefaultDrives, GrpcDrives
from support.virtual_time import in_virtual_time

DRIVE = Drive("t", "photos", "bucket", "prefix/", DrivePolicy(read_only=True), 1.0, 2.0)
DOWN = Unavailable("DRIVES_UNAVAILABLE", "Not now.")
RATE_LIMITED = ResourceExhausted("RATE_LIMITED", "Slower.", retry_after_seconds=4.0)
GONE = NotFound("DRIVE_NOT_FOUND", "No such drive.")


class Source:
    """A directory that counts its calls and returns `drive` or raises `failure`.

    The next `limited` calls are above the caller's rate.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.limited = 0
        self.failure: SluiceError | None = None
        self.drive = DRIVE

    async def get(
        self, tenant: str, name: str, *, create: bool = False, with_grants: bool = True
    ) -> DriveWithGrants:
        self.calls += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        if self.limited > 0:
            self.limited -= 1
            raise RATE_LIMITED
        return DriveWithGrants(replace(self.drive, tenant=tenant, name=name))

    async def holds(self, tenant: str, name: str, path: str) -> bool:
        self.calls += 1
        return False

    async def reserve(self, tenant: str, name: str, upload_id: str, size: int) -> None:
        self.calls += 1
        if self.limited > 0:
            self.limited -= 1
            raise RATE_LIMITED

    async def release(self, tenant: str, name: str, upload_id: str) -> None:
        raise AssertionError("the drive has no quota")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_drive_is_fetched_once_a_minute() -> None:
    source, clock = Source(), Clock()
    drives = CachedDrives(source, clock=clock)
    for clock.now in (0.0, 30.0, 59.9):
        assert (await drives.get("t", "photos")).drive.bucket == "bucket"
    assert source.calls == 1
    clock.now = 60.0
    await drives.get("t", "photos")
    assert source.calls == 2


async def test_concurrent_reads_of_a_drive_are_coalesced() -> None:
    source = Source()
    drives = CachedDrives(source)
    await asyncio.gather(*(drives.get("t", "photos") for _ in range(50)))
    assert source.calls == 1


async def test_drive_is_served_stale_while_source_is_down() -> None:
    source, clock = Source(), Clock()
    drives = CachedDrives(source, clock=clock)
    await drives.get("t", "photos")
    clock.now, source.failure = 3600.0, DOWN
    assert (await drives.get("t", "photos")).drive.bucket == "bucket"
    source.failure, source.drive = None, replace(DRIVE, bucket="new")
    assert (await drives.get("t", "photos")).drive.bucket == "new"


async def test_uncached_drive_is_unavailable_while_source_is_down() -> None:
    source = Source()
    source.failure = DOWN
    with pytest.raises(Unavailable):
        await CachedDrives(source).get("t", "photos")


@pytest.mark.parametrize("failure", [GONE, PermissionDenied("NO", "Not for you.")])
async def test_permanent_error_is_not_masked_by_the_cache(failure: SluiceError) -> None:
    source, clock = Source(), Clock()
    drives = CachedDrives(source, clock=clock)
    await drives.get("t", "photos")
    clock.now, source.failure = 60.0, failure
    with pytest.raises(type(failure)):
        await drives.get("t", "photos")


@in_virtual_time
async def test_caller_above_its_rate_gets_no_stale_drive() -> None:
    """A revoked caller could keep its access by exhausting its own rate."""
    source, clock = Source(), Clock()
    drives = CachedDrives(source, clock=clock)
    await drives.get("t", "photos")
    clock.now, source.limited = 60.0, 3
    with pytest.raises(ResourceExhausted) as refused:
        await drives.get("t", "photos")
    assert refused.value.reason == "RATE_LIMITED"


@in_virtual_time
async def test_caller_above_its_rate_waits_for_ten_seconds() -> None:
    """A stream is slowed down and not broken, by a look-up as by a reservation."""
    source = Source()
    drives = CachedDrives(source)
    source.limited = 2
    assert (await drives.get("t", "photos")).drive.bucket == "bucket"
    source.limited = 2
    await drives.reserve("t", "photos", "u", 1)
    assert (source.calls, asyncio.get_running_loop().time()) == (6, 16.0)
    source.limited = 3
    with pytest.raises(ResourceExhausted):
        await drives.reserve("t", "photos", "u", 1)


@in_virtual_time
async def test_caller_above_its_rate_delays_no_other() -> None:
    source = Source()
    drives = CachedDrives(source)
    source.limited = 1
    slow = asyncio.create_task(drives.get("t", "photos"))
    await asyncio.sleep(1.0)
    await drives.get("t", "photos")
    assert asyncio.get_running_loop().time() == 1.0
    await slow
    assert source.calls == 2, "the delayed caller uses the other's answer"


async def test_tenants_do_not_share_a_drive_of_one_name() -> None:
    drives = CachedDrives(Source())
    assert (await drives.get("a", "photos")).drive.tenant == "a"
    assert (await drives.get("b", "photos")).drive.tenant == "b"


async def test_cache_evicts_the_least_recently_used_drive() -> None:
    source = Source()
    drives = CachedDrives(source, max_drives=2)
    for name in ("one", "two", "one", "three", "one"):
        await drives.get("t", name)
    assert source.calls == 3
    await drives.get("t", "two")
    assert source.calls == 4


async def test_every_name_is_a_default_drive_without_catalogue() -> None:
    drive = (await DefaultDrives().get("t", "anything")).drive
    assert (drive.name, drive.bucket, drive.policy) == ("anything", "", DrivePolicy())


# ------------------------------------------------------------------ over gRPC


class Repository:
    """A server of GetDrive and GetNode that can be made to fail."""

    def __init__(self) -> None:
        self.failure: SluiceError | None = None
        self.metadata: dict[str, Any] = {}
        self.grants: list[repository_pb2.Grant] = []
        self.access = 0

    async def get_drive(self, request: Any, context: Any) -> repository_pb2.GetDriveResponse:
        self.metadata = dict(context.invocation_metadata())
        if self.failure is not None:
            await context.abort_with_status(rpc_status.to_status(to_status(self.failure)))
        policy = repository_pb2.DrivePolicy(
            integrity=repository_pb2.INTEGRITY_SHA256_BEFORE_VISIBLE,
            part_bytes=16,
            require_uniform=True,
            read_only=True,
            storage_class="COLD",
            encryption="AES256",
            drop_location=True,
            access=self.access,  # type: ignore[arg-type]
        )
        drive = repository_pb2.Drive(name=request.name, bucket="b", key_prefix="p/", policy=policy)
        drive.created_at.FromNanoseconds(1_500_000_000)
        return repository_pb2.GetDriveResponse(drive=drive, grants=self.grants)

    async def get_node(self, request: Any, context: Any) -> repository_pb2.GetNodeResponse:
        self.metadata = dict(context.invocation_metadata())
        if self.failure is not None:
            await context.abort_with_status(rpc_status.to_status(to_status(self.failure)))
        assert (request.location.drive, request.location.path) == ("photos", "a/b")
        return repository_pb2.GetNodeResponse(node=repository_pb2.Node(node_id="n"))

    def add_to(self, server: grpc.aio.Server) -> None:
        node = grpc.unary_unary_rpc_method_handler(
            self.get_node,
            repository_pb2.GetNodeRequest.FromString,
            repository_pb2.GetNodeResponse.SerializeToString,
        )
        handler = grpc.unary_unary_rpc_method_handler(
            self.get_drive,
            repository_pb2.GetDriveRequest.FromString,
            repository_pb2.GetDriveResponse.SerializeToString,
        )
        service = "sluice.repository.v1.RepositoryService"
        handlers = grpc.method_handlers_generic_handler(
            service, {"GetDrive": handler, "GetNode": node}
        )
        server.add_generic_rpc_handlers((handlers,))


async def test_grpc_drives_call_the_repository() -> None:
    repository, server = Repository(), grpc.aio.server()
    repository.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        drives = GrpcDrives(channel)
        policy = DrivePolicy(
            Integrity.SHA256_BEFORE_VISIBLE, 16, True, True, "COLD", "AES256", drop_location=True
        )
        drive = Drive("t", "photos", "b", "p/", policy, 1.5, 0.0)
        assert await drives.get("t", "photos") == DriveWithGrants(drive)
        assert "authorization" not in repository.metadata
        repository.failure = GONE
        with pytest.raises(NotFound) as gone:
            await drives.get("t", "photos")
        assert gone.value.reason == "DRIVE_NOT_FOUND"
        await server.stop(None)
        with pytest.raises(Unavailable) as down:
            await drives.get("t", "photos")
        assert down.value.reason == "DRIVES_UNAVAILABLE"


async def test_grpc_drives_report_whether_a_path_has_a_node() -> None:
    repository, server = Repository(), grpc.aio.server()
    repository.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        drives = CachedDrives(GrpcDrives(channel))
        assert await drives.holds("t", "photos", "a/b")
        repository.failure = NotFound("NODE_NOT_FOUND", "No such node.")
        assert not await drives.holds("t", "photos", "a/b"), "the answer must not be cached"
        await server.stop(None)
        for asking in (drives.holds("t", "photos", "a/b"), drives.get("t", "photos")):
            with pytest.raises(Unavailable) as down:
                await asking
            assert down.value.reason == "DRIVES_UNAVAILABLE"
            assert "127.0.0.1" not in down.value.message
            assert str(port) in down.value.log_detail


async def test_grpc_drives_forward_the_callers_credentials() -> None:
    """To GetDrive and GetNode, and those of each call's own principal."""
    repository, server = Repository(), grpc.aio.server()
    repository.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ann = Principal("t", "ann", frozenset({Scope.UPLOADS_WRITE}))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        drives = GrpcDrives(channel)

        async def call_as(authorization: str | None) -> list[object]:
            set_principal(ann, authorization)
            seen = []
            for calling in (drives.get("t", "photos"), drives.holds("t", "photos", "a/b")):
                await calling
                seen.append(repository.metadata.get("authorization"))
            return seen

        for authorization in ("Bearer one", "Bearer two", None):
            # A task of its own, as each call of a server has.
            seen = await asyncio.create_task(call_as(authorization))
            assert seen == [authorization, authorization]
        assert current_authorization() is None
    await server.stop(None)


async def test_grpc_drives_read_access_and_grants() -> None:
    """A grant or a role of a later release gives nothing, an unknown access opens nothing."""
    repository, server = Repository(), grpc.aio.server()
    repository.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    subject = repository_pb2.Grantee(subject="ann")
    repository.grants = [
        repository_pb2.Grant(grantee=subject, role=repository_pb2.ROLE_OWNER),
        repository_pb2.Grant(
            grantee=repository_pb2.Grantee(group="staff"), role=repository_pb2.ROLE_READER
        ),
        repository_pb2.Grant(grantee=repository_pb2.Grantee(group="later"), role=99),  # type: ignore[arg-type]
        repository_pb2.Grant(role=repository_pb2.ROLE_OWNER),
    ]
    accesses = {0: Access.TENANT, 1: Access.TENANT, 2: Access.GRANTS, 99: Access.GRANTS}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for number, access in accesses.items():
            repository.access = number
            found = await GrpcDrives(channel).get("t", "photos")
            assert found.drive.access is access
            assert found.grants == {
                Grantee(GranteeKind.SUBJECT, "ann"): Role.OWNER,
                Grantee(GranteeKind.GROUP, "staff"): Role.READER,
            }
    await server.stop(None)
