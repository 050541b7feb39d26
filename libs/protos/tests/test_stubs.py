"""The generated stubs are importable as their proto path says, and complete."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2

PROTOS = Path(__file__).resolve().parents[3] / "protos"
SOURCES = sorted(path.relative_to(PROTOS) for path in PROTOS.rglob("*.proto"))


def test_there_are_protos_to_check() -> None:
    assert len(SOURCES) >= 5


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_every_proto_has_a_module_at_its_package_path(source: Path) -> None:
    module = import_module(".".join(source.with_suffix("").parts) + "_pb2")
    assert module.DESCRIPTOR.name == source.as_posix()
    assert module.DESCRIPTOR.package == ".".join(source.parent.parts)


def test_services_have_the_calls_of_the_contract() -> None:
    intake = upload_pb2.DESCRIPTOR.services_by_name["IntakeService"]
    assert [method.name for method in intake.methods] == [
        "GetLimits",
        "InitiateUpload",
        "UploadChunk",
        "UploadStream",
        "CompleteUpload",
        "AbortUpload",
        "GetUploadStatus",
        "WatchUpload",
        "ListUploads",
    ]
    repository = repository_pb2.DESCRIPTOR.services_by_name["RepositoryService"]
    assert {method.name for method in repository.methods} == {
        "CreateDrive",
        "GetDrive",
        "ListDrives",
        "UpdateDrive",
        "DeleteDrive",
        "GrantDrive",
        "RevokeDrive",
        "ListGrants",
        "GetNode",
        "ListNodes",
        "UpdateNode",
        "DeleteNode",
        "ReadNode",
        "GetDownloadUrl",
        "ListAuditEntries",
        "SetQuota",
        "GetUsage",
        "ReserveQuota",
        "ReleaseQuota",
    }


@pytest.mark.parametrize("package", ["upload", "repository", "events", "photos"])
def test_stubs_are_typed(package: str) -> None:
    module = import_module(f"sluice.{package}")
    assert (Path(next(iter(module.__path__))) / "py.typed").is_file()
