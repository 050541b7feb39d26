"""InitiateUpload: drive policies, if_absent, request ids, inline data and limits."""

from __future__ import annotations

import os
from typing import Any

import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_core.errors import NotFound, PermissionDenied, SluiceError, Unavailable
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports.catalogue import Drive, DrivePolicy
from sluice_core.ports.drive_with_grants import DriveWithGrants
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB, Integrity, ObjectRef
from sluice_intake.options import IntakeOptions
from support.intake import Intake, refusal, running_intake
from support.part_worker import working_for


class OneDrive:
    """A directory with one drive, `photos`."""

    def __init__(self, policy: DrivePolicy, bucket: str = "", key_prefix: str = "") -> None:
        self.taken = set[str]()
        self.failure: SluiceError | None = None
        self._policy = policy
        self._bucket = bucket
        self._key_prefix = key_prefix

    async def get(
        self, tenant: str, name: str, *, create: bool = False, with_grants: bool = True
    ) -> DriveWithGrants:
        if name != "photos":
            raise NotFound("DRIVE_NOT_FOUND", "There is no such drive.")
        drive = Drive(tenant, name, self._bucket, self._key_prefix, self._policy, 0.0, 0.0)
        return DriveWithGrants(drive)

    async def holds(self, tenant: str, name: str, path: str) -> bool:
        if self.failure is not None:
            raise self.failure
        return path in self.taken

    async def reserve(self, tenant: str, name: str, upload_id: str, size: int) -> None:
        raise AssertionError("the drive has no quota")

    async def release(self, tenant: str, name: str, upload_id: str) -> None:
        raise AssertionError("the drive has no quota")


async def test_the_answer_names_the_sizes_to_use() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate(chunk_size=3 * MIB)
        assert upload.upload_id.startswith(intake.ledger.nonce + "-")
        assert upload.state == pb.UPLOAD_STATE_PENDING
        assert (upload.chunk_size, upload.max_block_bytes) == (3 * MIB, MIB)
        assert upload.part_bytes == 8 * MIB
        assert upload.expires_at.seconds > 0
        assert (await intake.initiate()).chunk_size == 8 * MIB  # the server's preference


@pytest.mark.rule(14)
async def test_every_upload_gets_a_node_id_of_its_own() -> None:
    async with running_intake() as intake:
        first, second = await intake.initiate("same"), await intake.initiate("same")
        assert first.node_id != second.node_id


@pytest.mark.rule(14)
async def test_upload_inherits_the_policy_of_its_drive() -> None:
    policy = DrivePolicy(
        integrity=Integrity.SHA256_BEFORE_VISIBLE,
        part_bytes=16 * MIB,
        storage_class="COLD",
        encryption="AES256",
    )
    drives = OneDrive(policy, bucket="archive", key_prefix="p/")
    async with running_intake(drives=drives) as intake:
        upload = await intake.initiate("Cafe\u0301.jpg", metadata={"k": "v"}, if_absent=True)
        new = (await intake.ledger.get(upload.upload_id)).new
        assert new.object == ObjectRef("archive", f"p/default/photos/{upload.node_id}")
        assert (new.path, new.content_type) == ("Caf\u00e9.jpg", "image/jpeg")
        assert (new.integrity, new.part_bytes) == (policy.integrity, policy.part_bytes)
        assert (new.storage_class, new.encryption) == ("COLD", "AES256")
        assert (new.metadata, new.if_absent, new.subject) == ({"k": "v"}, True, "tester")


async def test_an_unknown_drive_is_not_found() -> None:
    async with running_intake(drives=OneDrive(DrivePolicy())) as intake:
        error = await refusal(intake.initiate(drive="other"))
        assert (error.code, error.reason) == ("NOT_FOUND", "DRIVE_NOT_FOUND")


async def test_a_read_only_drive_takes_no_upload() -> None:
    async with running_intake(drives=OneDrive(DrivePolicy(read_only=True))) as intake:
        error = await refusal(intake.initiate())
        assert (error.code, error.reason) == ("PERMISSION_DENIED", "DRIVE_READ_ONLY")


@pytest.mark.rule(4)
async def test_uniform_drive_requires_both_sizes() -> None:
    async with running_intake(drives=OneDrive(DrivePolicy(require_uniform=True))) as intake:
        half_declared: list[dict[str, Any]] = [{}, {"chunk_size": MIB}, {"expected_size": MIB}]
        for fields in half_declared:
            error = await refusal(intake.initiate(**fields))
            assert (error.code, error.reason) == ("FAILED_PRECONDITION", "UNIFORM_REQUIRED")
        await intake.initiate(chunk_size=MIB, expected_size=MIB)
        await intake.initiate(inline_data=b"one part by nature")


# ------------------------------------------------------------------ if_absent


@pytest.mark.parametrize("fields", [{}, {"inline_data": b"x"}, {"request_id": "r"}])
async def test_a_taken_path_is_refused_at_once(fields: dict[str, Any]) -> None:
    """The client sends no bytes for an upload that cannot complete; paths compare in NFC."""
    drives = OneDrive(DrivePolicy())
    drives.taken.add("Caf\u00e9")
    async with running_intake(drives=drives) as intake:
        error = await refusal(intake.initiate("Cafe\u0301", if_absent=True, **fields))
        assert (error.code, error.reason, error.field) == ("ALREADY_EXISTS", "PATH_EXISTS", "path")
        assert not (await intake.stub.ListUploads(pb.ListUploadsRequest())).uploads
        await intake.initiate("Cafe\u0301", **fields)
        await intake.initiate("other", if_absent=True)


async def test_repeated_initiate_finds_its_upload_on_its_own_path() -> None:
    drives = OneDrive(DrivePolicy())
    async with running_intake(drives=drives) as intake:
        first = await intake.initiate("a", if_absent=True, request_id="r1")
        drives.taken.add("a")
        again = await intake.initiate("a", if_absent=True, request_id="r1")
        assert again.upload_id == first.upload_id
        error = await refusal(intake.initiate("a", if_absent=True, request_id="r2"))
        assert error.reason == "PATH_EXISTS"


@pytest.mark.parametrize(
    "failure",
    [
        Unavailable("DRIVES_UNAVAILABLE", "Not now."),
        PermissionDenied("MISSING_SCOPE", "A token that may write need not read nodes."),
    ],
)
async def test_path_check_is_skipped_when_it_is_impossible(failure: SluiceError) -> None:
    drives = OneDrive(DrivePolicy())
    drives.failure = failure
    async with running_intake(drives=drives) as intake:
        upload = await intake.initiate("a", if_absent=True)
        assert (await intake.ledger.get(upload.upload_id)).new.if_absent
        drives.failure = PermissionDenied("NO_SCOPE", "Not you.")
        assert (await refusal(intake.initiate("b", if_absent=True))).reason == "NO_SCOPE"


# ------------------------------------------------------------------ request_id


async def test_a_repeated_request_id_gets_the_same_answer() -> None:
    async with running_intake() as intake:
        first = await intake.initiate(request_id="r1", metadata={"a": "1", "b": "2"})
        again = await intake.initiate(request_id="r1", metadata={"b": "2", "a": "1"})
        assert (again.upload_id, again.node_id) == (first.upload_id, first.node_id)


@pytest.mark.parametrize(
    "change",
    [{"path": "other"}, {"expected_size": 1}, {"if_absent": True}, {"metadata": {"a": "b"}}],
)
async def test_a_request_id_with_other_arguments_is_a_conflict(change: dict[str, Any]) -> None:
    async with running_intake() as intake:
        await intake.initiate(request_id="r1")
        error = await refusal(intake.initiate(**{"path": "a/b.bin", **change}, request_id="r1"))
        assert (error.code, error.reason) == ("ALREADY_EXISTS", "REQUEST_ID_CONFLICT")


async def test_request_ids_are_separate_per_tenant() -> None:
    async with running_intake() as intake:
        mine = await intake.initiate(request_id="r1")
        theirs = await intake.of("other").initiate("elsewhere", request_id="r1")
        assert mine.upload_id != theirs.upload_id


# ------------------------------------------------------------------ inline_data


@pytest.mark.parametrize("data", [b"", b"small", os.urandom(MIB)], ids=["empty", "small", "1 MiB"])
async def test_inline_data_is_the_whole_object_in_one_round_trip(data: bytes) -> None:
    async with running_intake() as intake, working_for(intake) as worker:
        upload = await intake.initiate(inline_data=data, crc32c=crc32c(data))
        assert upload.state == pb.UPLOAD_STATE_COMPLETING
        status = await intake.complete(upload.upload_id, wait={"seconds": 10})
        assert status.state == pb.UPLOAD_STATE_COMPLETED
        assert (status.total_chunks, status.received_bytes) == (1, len(data))
        assert worker.object_of(upload.upload_id) == data


async def test_inline_data_with_a_request_id_may_be_repeated() -> None:
    async with running_intake() as intake:
        first = await intake.initiate(inline_data=b"data", request_id="r1")
        again = await intake.initiate(inline_data=b"data", request_id="r1")
        assert again == first
        error = await refusal(intake.initiate(inline_data=b"other", request_id="r1"))
        assert error.reason == "REQUEST_ID_CONFLICT"


async def test_refused_inline_data_leaves_no_open_upload() -> None:
    async with running_intake() as intake:
        assert (await refusal(intake.initiate(inline_data=b"data", crc32c=1))).code == "DATA_LOSS"
        assert (await states_of(intake)) == [pb.UPLOAD_STATE_ABORTED]


async def states_of(intake: Intake) -> list[pb.UploadState.ValueType]:
    page = await intake.stub.ListUploads(pb.ListUploadsRequest(), metadata=intake.metadata)
    return [upload.state for upload in page.uploads]


@pytest.mark.rule(7)
async def test_limits_report_the_options_of_the_server() -> None:
    options = IntakeOptions(
        ledger=LedgerOptions(max_chunk_bytes=9 * MIB, look_ahead_parts=2, idle_lifetime_seconds=60),
        preferred_chunk_bytes=4 * MIB,
    )
    async with running_intake(options) as intake:
        limits = await intake.stub.GetLimits(pb.GetLimitsRequest())
        assert (limits.max_block_bytes, limits.max_chunk_bytes) == (MIB, 9 * MIB)
        assert limits.preferred_chunk_bytes == 4 * MIB
        assert (limits.part_bytes, limits.look_ahead_bytes) == (8 * MIB, 16 * MIB)
        assert limits.idle_lifetime.seconds == 60
        assert limits.durability == pb.DURABILITY_MEMORY
        assert limits.max_object_bytes == 5 * 1024**4
        assert (limits.max_unary_message_bytes, limits.max_inline_bytes) == (32 * MIB, MIB)
