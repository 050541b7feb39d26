"""Tests of RepositoryService over gRPC: drives and nodes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from sluice.repository.v1 import repository_pb2 as pb
from sluice_core.errors import (
    Aborted,
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SluiceError,
    Unauthenticated,
)
from support.commits import BUCKET, DRIVE, TENANT
from support.repository import Repository, answered, running_repository

MIB = 1024 * 1024


@pytest.fixture
async def repository(tmp_path: Path) -> AsyncIterator[Repository]:
    async with running_repository(tmp_path) as running:
        yield running


async def refused(call: grpc.aio.UnaryUnaryCall) -> SluiceError:  # type: ignore[type-arg]
    with pytest.raises(SluiceError) as caught:
        await answered(call)
    return caught.value


# ------------------------------------------------------------------ drives


async def test_created_drive_has_defaults_and_is_found(repository: Repository) -> None:
    made = await answered(
        repository.stub.CreateDrive(
            pb.CreateDriveRequest(name="plain"), metadata=repository.metadata
        )
    )
    assert made.drive.bucket == BUCKET
    assert made.drive.policy.integrity == pb.INTEGRITY_SHA256_ASYNC
    assert made.drive.created_at.ToSeconds() == pytest.approx(time.time(), abs=60)
    found = await answered(
        repository.stub.GetDrive(pb.GetDriveRequest(name="plain"), metadata=repository.metadata)
    )
    assert found.drive == made.drive


async def test_a_drive_keeps_every_setting(repository: Repository) -> None:
    policy = pb.DrivePolicy(
        integrity=pb.INTEGRITY_SHA256_BEFORE_VISIBLE,
        part_bytes=16 * MIB,
        require_uniform=True,
        read_only=True,
        storage_class="GLACIER_IR",
        encryption="aws:kms",
        access=pb.ACCESS_GRANTS,
    )
    request = pb.CreateDriveRequest(
        name="strict", bucket="cold-store", key_prefix="old/", policy=policy
    )
    made = await answered(repository.stub.CreateDrive(request, metadata=repository.metadata))
    assert (made.drive.bucket, made.drive.key_prefix) == ("cold-store", "old/")
    assert made.drive.policy == policy
    again = await answered(repository.stub.CreateDrive(request, metadata=repository.metadata))
    assert again == made


async def test_drive_with_other_settings_already_exists(repository: Repository) -> None:
    error = await refused(
        repository.stub.CreateDrive(
            pb.CreateDriveRequest(name=DRIVE, bucket="another"), metadata=repository.metadata
        )
    )
    assert isinstance(error, AlreadyExists)
    assert (error.reason, error.field) == ("DRIVE_EXISTS", "name")


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (pb.CreateDriveRequest(name=""), "BAD_DRIVE_NAME", "name"),
        (pb.CreateDriveRequest(name="../etc"), "BAD_DRIVE_NAME", "name"),
        (pb.CreateDriveRequest(name="d", bucket="UPPER"), "BAD_BUCKET", "bucket"),
        (pb.CreateDriveRequest(name="d", bucket="a..b"), "BAD_BUCKET", "bucket"),
        (pb.CreateDriveRequest(name="d", key_prefix="/abs"), "BAD_KEY_PREFIX", "key_prefix"),
        (pb.CreateDriveRequest(name="d", key_prefix="p"), "BAD_KEY_PREFIX", "key_prefix"),
        (pb.CreateDriveRequest(name="d", key_prefix="a/b"), "BAD_KEY_PREFIX", "key_prefix"),
        (pb.CreateDriveRequest(name="d", key_prefix="a/../b"), "BAD_KEY_PREFIX", "key_prefix"),
        (pb.CreateDriveRequest(name="d", key_prefix="a//b"), "BAD_KEY_PREFIX", "key_prefix"),
        (pb.CreateDriveRequest(name="d", key_prefix="x" * 513), "BAD_KEY_PREFIX", "key_prefix"),
        (
            pb.CreateDriveRequest(name="d", policy=pb.DrivePolicy(part_bytes=5 * MIB - 1)),
            "BAD_POLICY",
            "policy.part_bytes",
        ),
        (
            pb.CreateDriveRequest(name="d", policy=pb.DrivePolicy(part_bytes=64 * MIB + 1)),
            "BAD_POLICY",
            "policy.part_bytes",
        ),
        (
            pb.CreateDriveRequest(name="d", policy=pb.DrivePolicy(storage_class="no good")),
            "BAD_POLICY",
            "policy.storage_class",
        ),
        (
            pb.CreateDriveRequest(name="d", policy=pb.DrivePolicy(encryption="a\nb")),
            "BAD_POLICY",
            "policy.encryption",
        ),
        (
            pb.CreateDriveRequest(name="d", policy=pb.DrivePolicy(integrity=99)),  # type: ignore[arg-type]
            "BAD_POLICY",
            "policy.integrity",
        ),
    ],
)
async def test_a_bad_drive_is_refused_by_field(
    repository: Repository, request_: pb.CreateDriveRequest, reason: str, field: str
) -> None:
    error = await refused(repository.stub.CreateDrive(request_, metadata=repository.metadata))
    assert isinstance(error, InvalidArgument)
    assert (error.reason, error.field) == (reason, field)


async def test_unknown_and_foreign_drives_are_not_found(repository: Repository) -> None:
    for asker, name in ((repository, "nowhere"), (repository.of("rival"), DRIVE)):
        error = await refused(
            asker.stub.GetDrive(pb.GetDriveRequest(name=name), metadata=asker.metadata)
        )
        assert isinstance(error, NotFound)
        assert error.reason == "DRIVE_NOT_FOUND"


async def test_drives_are_listed_page_by_page(repository: Repository) -> None:
    for name in ("a", "b"):
        await repository.stub.CreateDrive(
            pb.CreateDriveRequest(name=name), metadata=repository.metadata
        )
    names, token = [], ""
    while True:
        page = await answered(
            repository.stub.ListDrives(
                pb.ListDrivesRequest(page_size=2, page_token=token), metadata=repository.metadata
            )
        )
        names.append([drive.name for drive in page.drives])
        token = page.next_page_token
        if not token:
            break
    assert names == [["a", "b"], [DRIVE]]


async def test_an_update_mask_changes_only_what_it_names(repository: Repository) -> None:
    update = pb.UpdateDriveRequest(
        name=DRIVE,
        policy=pb.DrivePolicy(read_only=True, part_bytes=8 * MIB),
        update_mask=FieldMask(paths=["read_only"]),
    )
    changed = await answered(repository.stub.UpdateDrive(update, metadata=repository.metadata))
    assert changed.drive.policy.read_only
    assert changed.drive.policy.part_bytes == 0
    update.ClearField("update_mask")
    update.policy.read_only = False
    changed = await answered(repository.stub.UpdateDrive(update, metadata=repository.metadata))
    assert not changed.drive.policy.read_only
    assert changed.drive.policy.part_bytes == 8 * MIB


async def test_an_update_mask_with_an_unknown_field_changes_nothing(
    repository: Repository,
) -> None:
    update = pb.UpdateDriveRequest(
        name=DRIVE,
        policy=pb.DrivePolicy(read_only=True),
        update_mask=FieldMask(paths=["read_only", "bucket"]),
    )
    error = await refused(repository.stub.UpdateDrive(update, metadata=repository.metadata))
    assert isinstance(error, InvalidArgument)
    assert (error.reason, error.field) == ("BAD_UPDATE_MASK", "update_mask")
    assert not (await repository.catalogue.get_drive(TENANT, DRIVE)).policy.read_only


# ------------------------------------------------------------------ nodes


async def test_node_is_found_by_id_and_by_location(repository: Repository) -> None:
    commit = await repository.store("a/é.txt")
    by_id = await answered(
        repository.stub.GetNode(
            pb.GetNodeRequest(node_id=commit.node_id), metadata=repository.metadata
        )
    )
    decomposed = pb.NodePath(drive=DRIVE, path="a/e\u0301.txt")
    by_place = await answered(
        repository.stub.GetNode(
            pb.GetNodeRequest(location=decomposed), metadata=repository.metadata
        )
    )
    assert by_id == by_place
    node = by_id.node
    assert (node.drive, node.path, node.size) == (DRIVE, "a/é.txt", 5)
    assert (node.crc32c, node.version, node.content_type) == (commit.crc32c, 1, "text/plain")
    assert not node.HasField("sha256")


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (pb.GetNodeRequest(), "NODE_REQUIRED", "node"),
        (pb.GetNodeRequest(node_id=""), "BAD_NODE_ID", "node_id"),
        (pb.GetNodeRequest(node_id="a{b}"), "BAD_NODE_ID", "node_id"),
        (
            pb.GetNodeRequest(location=pb.NodePath(drive=DRIVE, path="../x")),
            "BAD_PATH",
            "location.path",
        ),
        (
            pb.GetNodeRequest(location=pb.NodePath(drive="", path="x")),
            "BAD_DRIVE_NAME",
            "location.drive",
        ),
    ],
)
async def test_invalid_locator_is_refused_by_field(
    repository: Repository, request_: pb.GetNodeRequest, reason: str, field: str
) -> None:
    error = await refused(repository.stub.GetNode(request_, metadata=repository.metadata))
    assert isinstance(error, InvalidArgument)
    assert (error.reason, error.field) == (reason, field)


async def test_foreign_and_unauthenticated_callers_see_no_node(
    repository: Repository,
) -> None:
    commit = await repository.store("a")
    request = pb.GetNodeRequest(node_id=commit.node_id)
    rival = repository.of("rival")
    error = await refused(rival.stub.GetNode(request, metadata=rival.metadata))
    assert isinstance(error, NotFound)
    assert error.reason == "NODE_NOT_FOUND"
    assert isinstance(await refused(repository.stub.GetNode(request)), Unauthenticated)


async def test_nodes_are_listed_by_prefix_page_by_page(repository: Repository) -> None:
    for path in ("b/2", "a", "b/1", "b/3", "c"):
        await repository.store(path)
    request = pb.ListNodesRequest(drive=DRIVE, path_prefix="b/", page_size=2)
    first = await answered(repository.stub.ListNodes(request, metadata=repository.metadata))
    assert [node.path for node in first.nodes] == ["b/1", "b/2"]
    request.page_token = first.next_page_token
    second = await answered(repository.stub.ListNodes(request, metadata=repository.metadata))
    assert [node.path for node in second.nodes] == ["b/3"]
    assert second.next_page_token == ""


async def test_a_page_token_of_another_listing_is_refused(repository: Repository) -> None:
    for path in ("a", "b"):
        await repository.store(path)
    page = await answered(
        repository.stub.ListNodes(
            pb.ListNodesRequest(drive=DRIVE, page_size=1), metadata=repository.metadata
        )
    )
    for token, prefix in ((page.next_page_token, "b"), ("nonsense", ""), ("AAAA", ""), ("é", "")):
        error = await refused(
            repository.stub.ListNodes(
                pb.ListNodesRequest(drive=DRIVE, path_prefix=prefix, page_token=token),
                metadata=repository.metadata,
            )
        )
        assert isinstance(error, InvalidArgument)
        assert (error.reason, error.field) == ("BAD_PAGE_TOKEN", "page_token")


async def test_page_sizes_are_bounded(repository: Repository) -> None:
    await repository.store("a")
    request = pb.ListNodesRequest(drive=DRIVE, page_size=2**31 - 1)
    page = await answered(repository.stub.ListNodes(request, metadata=repository.metadata))
    assert len(page.nodes) == 1
    request.page_size = -1
    error = await refused(repository.stub.ListNodes(request, metadata=repository.metadata))
    assert error.reason == "BAD_PAGE_SIZE"


async def test_metadata_is_replaced_if_the_version_matches(repository: Repository) -> None:
    commit = await repository.store("a")
    request = pb.UpdateNodeRequest(node_id=commit.node_id, metadata={"k": "v"}, if_version=1)
    changed = await answered(repository.stub.UpdateNode(request, metadata=repository.metadata))
    assert (dict(changed.node.metadata), changed.node.version) == ({"k": "v"}, 2)
    error = await refused(repository.stub.UpdateNode(request, metadata=repository.metadata))
    assert isinstance(error, Aborted)
    assert (error.reason, error.metadata["version"]) == ("VERSION_CONFLICT", "2")


@pytest.mark.parametrize(
    ("metadata", "if_version", "reason"),
    [
        ({f"k{n}": "" for n in range(65)}, 0, "TOO_MANY_METADATA_ENTRIES"),
        ({"k": "x" * 8192}, 0, "METADATA_TOO_LARGE"),
        ({"": "v"}, 0, "BAD_METADATA"),
        ({}, -1, "BAD_VERSION"),
    ],
)
async def test_a_bad_update_changes_nothing(
    repository: Repository, metadata: dict[str, str], if_version: int, reason: str
) -> None:
    commit = await repository.store("a")
    error = await refused(
        repository.stub.UpdateNode(
            pb.UpdateNodeRequest(node_id=commit.node_id, metadata=metadata, if_version=if_version),
            metadata=repository.metadata,
        )
    )
    assert isinstance(error, InvalidArgument)
    assert error.reason == reason
    assert (await repository.catalogue.get_node(TENANT, commit.node_id)).version == 1


async def test_deletion_is_idempotent_by_id_but_not_by_location(repository: Repository) -> None:
    first, second = await repository.store("a"), await repository.store("b")
    for _ in range(2):
        answer = await answered(
            repository.stub.DeleteNode(
                pb.DeleteNodeRequest(node_id=first.node_id), metadata=repository.metadata
            )
        )
        assert answer.node_id == first.node_id
    by_place = pb.DeleteNodeRequest(location=pb.NodePath(drive=DRIVE, path="b"))
    answer = await answered(repository.stub.DeleteNode(by_place, metadata=repository.metadata))
    assert answer.node_id == second.node_id
    error = await refused(repository.stub.DeleteNode(by_place, metadata=repository.metadata))
    assert isinstance(error, NotFound)
    assert error.reason == "NODE_NOT_FOUND"


async def test_an_unknown_node_cannot_be_deleted(repository: Repository) -> None:
    error = await refused(
        repository.stub.DeleteNode(
            pb.DeleteNodeRequest(node_id="unknown"), metadata=repository.metadata
        )
    )
    assert isinstance(error, NotFound)
    assert error.reason == "NODE_NOT_FOUND"


async def test_nothing_is_deleted_from_a_read_only_drive(repository: Repository) -> None:
    commit = await repository.store("a")
    await repository.stub.UpdateDrive(
        pb.UpdateDriveRequest(name=DRIVE, policy=pb.DrivePolicy(read_only=True)),
        metadata=repository.metadata,
    )
    error = await refused(
        repository.stub.DeleteNode(
            pb.DeleteNodeRequest(node_id=commit.node_id), metadata=repository.metadata
        )
    )
    assert isinstance(error, PermissionDenied)
    assert error.reason == "DRIVE_READ_ONLY"
    assert (await repository.catalogue.get_node(TENANT, commit.node_id)).version == 1
