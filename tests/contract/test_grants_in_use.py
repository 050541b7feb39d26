"""Grants while they change, what listings show, and deleted drives, through real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from sluice.repository.v1 import repository_pb2 as rp
from sluice.upload.v1 import upload_pb2 as up
from sluice_common.rpc.errors import from_rpc_error
from sluice_core.access.grants import Grantee, GranteeKind, Role
from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import Unavailable
from sluice_core.uploads.checksums import crc32c
from sluice_intake import lookup
from sluice_repository.rpc.drives import DriveRegistry
from support.guarded_services import CLOSED, OPEN, GuardedServices, guarded_services
from support.intake import Answered, frames_of, read_all, refusal, running_intake
from support.principals import SpelledPrincipals, credentials

ALL = frozenset(Scope) - {Scope.TENANT_ADMIN}
ANN = Principal("acme", "ann", ALL)
BOB = Principal("acme", "bob", ALL)
ADMIN = Principal("acme", "root", frozenset({Scope.TENANT_ADMIN}))
GRANTEE_ANN = Grantee(GranteeKind.SUBJECT, "ann")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[GuardedServices]:
    async with guarded_services(tmp_path) as running:
        await running.add_drives("acme")
        yield running


async def refused(call: Awaitable[object]) -> str:
    return (await refusal(call)).reason


def initiate(services: GuardedServices, who: Principal, drive: str = CLOSED, **fields: Any) -> Any:
    request = up.InitiateUploadRequest(**{"drive": drive, "path": "a", **fields})
    return services.intake.InitiateUpload(request, metadata=credentials(who))


def send(services: GuardedServices, who: Principal, upload_id: str, number: int = 0) -> Any:
    request = up.UploadChunkRequest(
        upload_id=upload_id, number=number, data=b"x", crc32c=crc32c(b"x")
    )
    return services.intake.UploadChunk(request, metadata=credentials(who))


async def grant(services: GuardedServices, role: rp.Role.ValueType, who: str = "ann") -> None:
    request = rp.GrantDriveRequest(drive=CLOSED, grantee=rp.Grantee(subject=who), role=role)
    await services.repository.GrantDrive(request, metadata=credentials(ADMIN))


async def revoke(services: GuardedServices, who: str = "ann") -> None:
    request = rp.RevokeDriveRequest(drive=CLOSED, grantee=rp.Grantee(subject=who))
    await services.repository.RevokeDrive(request, metadata=credentials(ADMIN))


# ------------------------------------------------------------------ grants


async def test_a_grant_answers_its_record(services: GuardedServices) -> None:
    request = rp.GrantDriveRequest(
        drive=CLOSED, grantee=rp.Grantee(group="staff"), role=rp.ROLE_WRITER
    )
    metadata = credentials(ADMIN)
    made = (await services.repository.GrantDrive(request, metadata=metadata)).grant
    assert (made.grantee.group, made.role) == ("staff", rp.ROLE_WRITER)
    assert made.created_at.seconds > 0
    shown = await services.repository.GetDrive(rp.GetDriveRequest(name=CLOSED), metadata=metadata)
    assert list(shown.grants) == [made]


async def test_grants_are_listed_page_by_page(services: GuardedServices) -> None:
    for name in ("a", "b", "c"):
        await grant(services, rp.ROLE_READER, name)
    names, token = [], ""
    while True:
        answer = await services.repository.ListGrants(
            rp.ListGrantsRequest(drive=CLOSED, page_size=2, page_token=token),
            metadata=credentials(ADMIN),
        )
        names.append([one.grantee.subject for one in answer.grants])
        token = answer.next_page_token
        if not token:
            break
    assert names == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "GRANTEE_REQUIRED"),
        ({"grantee": rp.Grantee(subject="")}, "BAD_GRANTEE"),
        ({"grantee": rp.Grantee(subject="x" * 256)}, "BAD_GRANTEE"),
        ({"grantee": rp.Grantee(group="a\nb")}, "BAD_GRANTEE"),
        ({"grantee": rp.Grantee(group="staff"), "role": 0}, "BAD_ROLE"),
        ({"grantee": rp.Grantee(group="staff"), "role": 99}, "BAD_ROLE"),
        ({"grantee": rp.Grantee(group="staff"), "drive": "no/name"}, "BAD_DRIVE_NAME"),
        ({"grantee": rp.Grantee(group="staff"), "drive": "unknown"}, "DRIVE_NOT_FOUND"),
    ],
)
async def test_an_invalid_grant_is_refused(
    services: GuardedServices, fields: dict[str, Any], reason: str
) -> None:
    request = rp.GrantDriveRequest(**{"drive": CLOSED, "role": rp.ROLE_READER, **fields})
    call = services.repository.GrantDrive(request, metadata=credentials(ADMIN))
    assert await refused(call) == reason


async def test_a_foreign_page_token_is_refused(services: GuardedServices) -> None:
    for name in ("a", "b"):
        await grant(services, rp.ROLE_READER, name)

    def listing(drive: str, token: str) -> Any:
        request = rp.ListGrantsRequest(drive=drive, page_size=1, page_token=token)
        return services.repository.ListGrants(request, metadata=credentials(ADMIN))

    token = (await listing(CLOSED, "")).next_page_token
    assert await refused(listing(OPEN, token)) == "BAD_PAGE_TOKEN"
    assert await refused(listing(CLOSED, "nonsense")) == "BAD_PAGE_TOKEN"


async def test_the_last_owner_may_be_removed(services: GuardedServices) -> None:
    """The administrators of the tenant remain."""
    await grant(services, rp.ROLE_OWNER)
    request = rp.RevokeDriveRequest(drive=CLOSED, grantee=rp.Grantee(subject="ann"))
    await services.repository.RevokeDrive(request, metadata=credentials(ANN))
    again = services.repository.RevokeDrive(request, metadata=credentials(ANN))
    assert await refused(again) == "NOT_GRANTED"
    await grant(services, rp.ROLE_OWNER)


# ------------------------------------------------------------------ closing a drive


async def update(services: GuardedServices, who: Principal, **policy: Any) -> rp.Drive:
    request = rp.UpdateDriveRequest(name=OPEN, policy=rp.DrivePolicy(**policy))
    metadata = credentials(who)
    return (await services.repository.UpdateDrive(request, metadata=metadata)).drive


async def test_who_closes_a_drive_becomes_its_owner(services: GuardedServices) -> None:
    assert (await update(services, ANN, access=rp.ACCESS_GRANTS)).policy.access == rp.ACCESS_GRANTS
    [made] = await services.catalogue.grants_of("acme", OPEN)
    assert (made.grantee, made.role) == (GRANTEE_ANN, Role.OWNER)
    assert (await refused(update(services, BOB, access=rp.ACCESS_TENANT))) == "NOT_GRANTED"
    await update(services, ANN, access=rp.ACCESS_TENANT)
    await update(services, BOB, access=rp.ACCESS_TENANT)


async def test_an_administrator_closes_a_drive_without_a_grant(services: GuardedServices) -> None:
    await update(services, ADMIN, access=rp.ACCESS_GRANTS)
    assert not await services.catalogue.grants_of("acme", OPEN)


async def test_an_older_client_does_not_open_a_closed_drive(services: GuardedServices) -> None:
    """It knows no access, and replaces the policy without a mask."""
    await update(services, ADMIN, access=rp.ACCESS_GRANTS)
    changed = await update(services, ADMIN, read_only=True)
    assert (changed.policy.access, changed.policy.read_only) == (rp.ACCESS_GRANTS, True)
    request = rp.UpdateDriveRequest(name=OPEN)
    request.update_mask.paths.append("access")
    call = services.repository.UpdateDrive(request, metadata=credentials(ADMIN))
    assert await refused(call) == "BAD_POLICY"


async def test_who_creates_a_closed_drive_owns_it(services: GuardedServices) -> None:
    policy = rp.DrivePolicy(access=rp.ACCESS_GRANTS)
    request = rp.CreateDriveRequest(name="new", policy=policy)
    for _ in range(2):
        await services.repository.CreateDrive(request, metadata=credentials(ANN))
    other = services.repository.CreateDrive(request, metadata=credentials(BOB))
    assert await refused(other) == "NOT_GRANTED"
    [made] = await services.catalogue.grants_of("acme", "new")
    assert (made.grantee, made.role) == (GRANTEE_ANN, Role.OWNER)


# ------------------------------------------------------------------ revocation


async def test_a_revocation_counts_after_a_minute(services: GuardedServices) -> None:
    await grant(services, rp.ROLE_WRITER)
    upload_id = (await initiate(services, ANN)).upload_id
    await send(services, ANN, upload_id)
    await revoke(services)
    services.clock.seconds = 59.0
    await send(services, ANN, upload_id, 1)  # decided on what is cached
    services.clock.seconds = 60.0
    assert await refused(send(services, ANN, upload_id, 2)) == "NOT_GRANTED"
    assert await refused(initiate(services, ANN)) == "NOT_GRANTED"
    request = up.CompleteUploadRequest(upload_id=upload_id, total_chunks=2)
    call = services.intake.CompleteUpload(request, metadata=credentials(ANN))
    assert await refused(call) == "NOT_GRANTED"


async def test_a_repository_call_counts_a_revocation_at_once(services: GuardedServices) -> None:
    await services.add_node("acme", CLOSED, "n")
    await grant(services, rp.ROLE_READER)
    request = rp.GetNodeRequest(location=rp.NodePath(drive=CLOSED, path="n"))
    await services.repository.GetNode(request, metadata=credentials(ANN))
    await revoke(services)
    again = services.repository.GetNode(request, metadata=credentials(ANN))
    assert await refused(again) == "NOT_GRANTED"


async def test_a_revocation_ends_an_open_stream(
    services: GuardedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunks that were acknowledged before stay acknowledged."""
    monkeypatch.setattr(lookup, "RECHECK_SECONDS", 0.0)
    await grant(services, rp.ROLE_WRITER)
    upload_id = (await initiate(services, ANN)).upload_id
    stream: Any = services.intake.UploadStream
    call, answered = stream(metadata=credentials(ANN)), Answered()
    for frame in frames_of(upload_id, 0, b"x"):
        await call.write(frame)
    answered.add(await call.read())
    await revoke(services)
    services.clock.seconds = 60.0
    await call.write(frames_of(upload_id, 1, b"y")[0])
    error = await read_all(call, answered)
    assert error is not None
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "NOT_GRANTED")
    assert answered.numbers == [0]


async def test_a_revocation_ends_a_watch(
    services: GuardedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "RECHECK_SECONDS", 0.0)
    await grant(services, rp.ROLE_WRITER)
    await grant(services, rp.ROLE_READER, "bob")
    upload_id = (await initiate(services, ANN)).upload_id
    watching: Any = services.intake.WatchUpload(
        up.WatchUploadRequest(upload_id=upload_id), metadata=credentials(BOB)
    )
    assert (await watching.read()).status.received_chunks == 0
    await revoke(services, "bob")
    services.clock.seconds = 60.0
    await send(services, ANN, upload_id)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watching.read()
    assert from_rpc_error(ended.value).reason == "NOT_GRANTED"


async def test_cached_grants_of_one_caller_do_not_admit_another(
    services: GuardedServices,
) -> None:
    await grant(services, rp.ROLE_WRITER)
    for _ in range(2):
        assert await refused(initiate(services, BOB)) == "NOT_GRANTED"
        await initiate(services, ANN)


async def test_open_uploads_go_on_while_the_repository_is_down(
    services: GuardedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grant(services, rp.ROLE_WRITER)
    upload_id = (await initiate(services, ANN)).upload_id
    monkeypatch.setattr(services.catalogue, "get_drive", _unavailable)
    services.clock.seconds = 3600.0
    await send(services, ANN, upload_id)


async def test_what_needs_no_grants_needs_no_repository(
    services: GuardedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The intake has no copy of the drive, like one that was started just now."""
    upload_id = await services.add_upload("acme", "ann", CLOSED)
    monkeypatch.setattr(services.catalogue, "get_drive", _unavailable)
    request = up.GetUploadStatusRequest(upload_id=upload_id)
    await services.intake.GetUploadStatus(request, metadata=credentials(ANN))
    assert await listed_uploads(services, ANN) == {(CLOSED, "u")}
    await send(services, ADMIN, upload_id)
    assert await refused(send(services, ANN, upload_id)) == "DRIVES_UNAVAILABLE"
    other = services.intake.GetUploadStatus(request, metadata=credentials(BOB))
    assert await refused(other) == "DRIVES_UNAVAILABLE"


async def _unavailable(*_: object) -> Any:
    raise Unavailable("CATALOGUE_UNAVAILABLE", "The database does not answer; repeat the call.")


# ------------------------------------------------------------------ owners of uploads


async def test_a_request_id_of_another_subject_is_a_conflict(services: GuardedServices) -> None:
    """Nobody gets another's upload by repeating its request, with or without inline data."""
    for fields in ({"request_id": "r1"}, {"request_id": "r2", "inline_data": b"hello"}):
        first = await initiate(services, ANN, OPEN, **fields)
        assert (await initiate(services, ANN, OPEN, **fields)).upload_id == first.upload_id
        error = await refusal(initiate(services, BOB, OPEN, **fields))
        assert (error.code, error.reason) == ("ALREADY_EXISTS", "REQUEST_ID_CONFLICT")


async def test_an_unknown_drive_is_not_created_by_an_uploader(tmp_path: Path) -> None:
    """The standalone creates drives on first use, for those who may create drives."""
    async with guarded_services(tmp_path) as services:
        drives = DriveRegistry(services.catalogue, auto_create=True)
        who = SpelledPrincipals()
        async with running_intake(drives=drives, authenticator=who) as intake:
            request = up.InitiateUploadRequest(drive="new", path="a")
            writer = replace(ANN, scopes=frozenset({Scope.UPLOADS_WRITE}))
            limited = replace(ADMIN, drives=("other",))
            for principal, reason in ((writer, "DRIVE_NOT_FOUND"), (limited, "NOT_GRANTED")):
                call = intake.stub.InitiateUpload(request, metadata=credentials(principal))
                assert await refused(call) == reason
            assert not (await drives.list("acme", 10, "")).drives
            await intake.stub.InitiateUpload(request, metadata=credentials(ANN))
            assert [one.name for one in (await drives.list("acme", 10, "")).drives] == ["new"]


# ------------------------------------------------------------------ listings


async def listed_uploads(services: GuardedServices, who: Principal) -> set[tuple[str, str]]:
    answer = await services.intake.ListUploads(up.ListUploadsRequest(), metadata=credentials(who))
    return {(one.drive, one.path) for one in answer.uploads}


async def test_listings_show_what_the_caller_may_see(services: GuardedServices) -> None:
    await services.add_drives("rival")
    for drive in (OPEN, CLOSED):
        for subject in ("ann", "bob"):
            await services.add_upload("acme", subject, drive, subject)
        await services.add_upload("rival", "ann", drive, "foreign")
    every = {(drive, path) for drive in (OPEN, CLOSED) for path in ("ann", "bob")}
    assert await listed_uploads(services, ADMIN) == every
    assert await listed_uploads(services, ANN) == every - {(CLOSED, "bob")}
    limited = replace(ANN, drives=(OPEN,))
    assert await listed_uploads(services, limited) == {(OPEN, "ann"), (OPEN, "bob")}
    await services.catalogue.put_grant("acme", CLOSED, GRANTEE_ANN, Role.READER)
    services.clock.seconds = 60.0
    assert await listed_uploads(services, ANN) == every


async def listed_drives(services: GuardedServices, who: Principal) -> list[str]:
    answer = await services.repository.ListDrives(rp.ListDrivesRequest(), metadata=credentials(who))
    return [drive.name for drive in answer.drives]


async def test_drives_are_listed_for_those_who_may(services: GuardedServices) -> None:
    assert await listed_drives(services, ADMIN) == [CLOSED, OPEN]
    assert await listed_drives(services, ANN) == [OPEN]
    await services.catalogue.put_grant("acme", CLOSED, GRANTEE_ANN, Role.READER)
    assert await listed_drives(services, ANN) == [CLOSED, OPEN]
    assert await listed_drives(services, replace(ANN, drives=("clo*",))) == [CLOSED]
    assert await listed_drives(services, replace(ADMIN, tenant="rival")) == []


# ------------------------------------------------------------------ deletion


def delete(services: GuardedServices, name: str, who: Principal = ADMIN) -> Any:
    request = rp.DeleteDriveRequest(name=name)
    return services.repository.DeleteDrive(request, metadata=credentials(who))


async def test_a_drive_with_an_open_upload_is_kept(services: GuardedServices) -> None:
    upload_id = await services.add_upload("acme", "ann", OPEN)
    await services.add_upload("rival", "ann", CLOSED)  # another tenant's drive
    assert await refused(delete(services, OPEN)) == "DRIVE_NOT_EMPTY"
    await delete(services, CLOSED)
    await services.ledger.abort(upload_id)
    await delete(services, OPEN)
    assert await listed_drives(services, ADMIN) == []


async def test_every_page_is_searched_for_open_uploads(
    services: GuardedServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice_repository.rpc.drive_deletion._PAGE", 2)
    await services.add_upload("acme", "ann", CLOSED)  # the oldest is on the last page
    for number in range(5):
        await services.add_upload("acme", "ann", OPEN, f"p{number}")
    assert await refused(delete(services, CLOSED)) == "DRIVE_NOT_EMPTY"


async def test_a_drive_with_a_node_is_kept(services: GuardedServices) -> None:
    node_id = await services.add_node("acme", OPEN, "n")
    assert await refused(delete(services, OPEN)) == "DRIVE_NOT_EMPTY"
    request = rp.DeleteNodeRequest(node_id=node_id)
    await services.repository.DeleteNode(request, metadata=credentials(ADMIN))
    await delete(services, OPEN)
    assert await refused(delete(services, OPEN)) == "DRIVE_NOT_FOUND"
    # Deleted again, as a repeated call does.
    await services.repository.DeleteNode(request, metadata=credentials(ADMIN))


async def test_uploads_of_a_deleted_drive_are_their_owners(services: GuardedServices) -> None:
    upload_id = await services.add_upload("acme", "ann", OPEN)
    await services.ledger.abort(upload_id)
    await delete(services, OPEN)
    assert await listed_uploads(services, ANN) == {(OPEN, "u")}
    assert await listed_uploads(services, BOB) == set()
    request = up.GetUploadStatusRequest(upload_id=upload_id)
    await services.intake.GetUploadStatus(request, metadata=credentials(ANN))
    other = services.intake.GetUploadStatus(request, metadata=credentials(BOB))
    assert await refused(other) == "DRIVE_NOT_FOUND"


async def test_no_call_waits_for_another_callers_refusal(services: GuardedServices) -> None:
    """Concurrent callers of one drive share a lock, and each gets its own answer."""
    await grant(services, rp.ROLE_WRITER)
    calls = [initiate(services, who) for who in (BOB, ANN) * 5]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(one, Exception) for one in outcomes] == [True, False] * 5
