"""Resumption: the same call continues after a crash at any point of either side."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from sluice.upload.v1 import upload_pb2
from sluice_client import Client, PermissionDenied, Phase, SourceChanged, UploadBusy, UploadResult
from sluice_client.model import FileIdentity
from sluice_client.uploads.journal import Entry, Journal, open_journal, prune, state_dir
from support.fake_intake import CHUNK_BYTES, FakeIntake
from support.scripted_faults import Break, CallFault, StreamFault

DATA = random.Random(4).randbytes(7 * CHUNK_BYTES + 5)
IDENTITY = FileIdentity(1, 2, 3, 4, 5)


class Crash(BaseException):
    """Simulated crash of the process."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(DATA)
    return path


def journals(client: Client) -> list[Path]:
    assert client.options.state_dir is not None
    return sorted((client.options.state_dir / "uploads").glob("*"))


async def upload(client: Client, file: Path, **more: Any) -> UploadResult:
    return await client.upload(file, drive="d", path="p", **more)


async def interrupted(client: Client, intake: FakeIntake, file: Path, **more: Any) -> None:
    """Run an upload that ends after three and a half chunks."""
    intake.stream_faults = [StreamFault(14, Break.DENIED)]
    with pytest.raises(PermissionDenied):
        await upload(client, file, streams=1, **more)
    assert intake.completed == []


async def test_next_run_sends_only_what_is_missing(
    client: Client, intake: FakeIntake, file: Path
) -> None:
    await interrupted(client, intake, file)
    (kept,) = [path for path in journals(client) if path.suffix == ".json"]
    assert json.loads(await _read(kept))["upload_id"] == "n1-1"
    result = await upload(client, file)
    assert result.upload_id == "n1-1"
    assert result.skipped_bytes == 3 * CHUNK_BYTES
    assert result.sent_bytes == len(DATA) - result.skipped_bytes
    assert intake.completed[0].data == DATA
    assert intake.resent == []
    assert journals(client) == [], "nothing is left behind"


async def _read(path: Path) -> str:
    return path.read_text()


@pytest.mark.parametrize(
    ("steps", "uploads"),
    [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 2)],
    ids=[
        "before the request id is on disk",
        "after it",
        "before the upload id is on disk",
        "after it",
        "before the journal goes",
        "after it",
    ],
)
async def test_crash_between_any_two_writes_is_harmless(
    client: Client,
    intake: FakeIntake,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    uploads: int,
) -> None:
    """A run is forgotten only after its very end; the next one then uploads from the start."""
    left = steps

    def step() -> None:
        nonlocal left
        left -= 1
        if left == -1:
            raise Crash

    def dying(method: Any) -> Any:
        def surrounded(*arguments: Any) -> None:
            step()
            method(*arguments)
            step()

        return surrounded

    for name in ("save", "remove"):
        monkeypatch.setattr(Journal, name, dying(getattr(Journal, name)))
    with pytest.raises(Crash):
        await upload(client, file)
    result = await upload(client, file)
    assert len(intake.uploads) == uploads
    assert all(one.data == DATA for one in intake.completed)
    assert result.upload_id == intake.completed[-1].upload_id
    assert intake.resent == []
    assert journals(client) == []


async def test_lost_initiate_answer_leads_to_the_same_upload(
    client: Client, intake: FakeIntake, file: Path
) -> None:
    lost = CallFault(grpc.StatusCode.INTERNAL, done=True)
    intake.call_faults["InitiateUpload"] = [lost]
    with pytest.raises(Exception, match="BACKEND_DOWN"):
        await upload(client, file)
    await upload(client, file)
    assert list(intake.uploads) == ["n1-1"]


async def test_upload_completed_after_a_crash_is_not_resent(
    client: Client, intake: FakeIntake, file: Path
) -> None:
    """The run died before it saw the completion."""
    intake.call_faults["CompleteUpload"] = [CallFault(grpc.StatusCode.INTERNAL, done=True)]
    with pytest.raises(Exception, match="BACKEND_DOWN"):
        await upload(client, file)
    result = await upload(client, file)
    assert (result.sent_bytes, result.skipped_bytes) == (0, len(DATA))
    assert len(intake.uploads) == 1


async def test_changed_file_restarts_with_a_notice(
    client: Client, intake: FakeIntake, file: Path
) -> None:
    await interrupted(client, intake, file)
    other = bytes(len(DATA))
    await _write(file, other)
    notices: list[str] = []
    result = await upload(client, file, on_progress=lambda it: notices.append(it.notice))
    assert result.upload_id == "n1-2"
    assert intake.completed[0].data == other
    assert intake.uploads["n1-1"].state == upload_pb2.UPLOAD_STATE_ABORTED
    assert any("restarts" in notice for notice in notices)


async def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


async def test_other_arguments_are_another_upload(
    client: Client, intake: FakeIntake, file: Path
) -> None:
    await interrupted(client, intake, file, content_type="text/plain")
    await upload(client, file, content_type="image/png")
    assert intake.completed[0].request.content_type == "image/png"


async def test_change_behind_the_identity_fails_the_checksum(
    client: Client, intake: FakeIntake, file: Path
) -> None:
    await interrupted(client, intake, file)
    status = os.stat(file)
    with file.open("r+b") as opened:
        opened.write(b"other bytes")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = await upload(client, file)
    assert result.restarts == 1
    (completed,) = intake.completed
    assert completed.data == await _bytes(file)


async def _bytes(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.parametrize(
    "state",
    [
        upload_pb2.UPLOAD_STATE_EXPIRED,
        upload_pb2.UPLOAD_STATE_ABORTED,
        upload_pb2.UPLOAD_STATE_FAILED,
    ],
)
async def test_upload_that_ended_meanwhile_restarts(
    client: Client,
    intake: FakeIntake,
    file: Path,
    state: upload_pb2.UploadState.ValueType,
) -> None:
    await interrupted(client, intake, file)
    intake.uploads["n1-1"].state = state
    result = await upload(client, file)
    assert (result.upload_id, result.restarts) == ("n1-2", 1)
    assert intake.completed[0].data == DATA


@pytest.mark.rule(28)
async def test_upload_purged_by_the_server_restarts(
    client: Client, intake: FakeIntake, file: Path
) -> None:
    await interrupted(client, intake, file)
    intake.uploads.clear()
    result = await upload(client, file)
    assert (result.upload_id, result.restarts) == ("n1-2", 1)
    assert intake.completed[0].data == DATA


async def test_file_changed_while_sending_fails(
    client: Client, intake: FakeIntake, file: Path
) -> None:
    touched = False

    def touch(progress: Any) -> None:
        nonlocal touched
        if progress.phase is Phase.SENDING and not touched:
            touched = True
            os.utime(file, ns=(1, 1))

    with pytest.raises(SourceChanged, match=r"file\.bin"):
        await upload(client, file, on_progress=touch)
    assert intake.completed == []
    assert intake.uploads["n1-1"].state == upload_pb2.UPLOAD_STATE_ABORTED
    assert journals(client) == []


async def test_concurrent_runs_of_one_upload_are_exclusive(
    client: Client, intake: FakeIntake, file: Path
) -> None:
    assert client.options.state_dir is not None
    held = open_journal(client.options.state_dir, client.target, "d", "p", file)
    with held, pytest.raises(UploadBusy, match="another run"):
        await upload(client, file)
    await upload(client, file)
    assert intake.completed[0].data == DATA


async def test_without_resume_no_journal_is_written(
    client: Client, intake: FakeIntake, file: Path
) -> None:
    await upload(client, file, resume=False)
    assert client.options.state_dir is not None
    assert not client.options.state_dir.exists()


def test_entry_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    entry = Entry.new(IDENTITY, 8, "arguments").named("u-1")
    with Journal(tmp_path / "j.json") as journal:
        journal.save(entry)
        assert journal.load() == entry
        journal.remove()
        assert journal.load() is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"version": 3}',
        b'{"version": 2, "identity": {}}',
        b"\xff",
        Entry.new(IDENTITY, 8, "").dump()[:-9],
        Entry.new(IDENTITY, 8, "").dump().replace(b'"version": 2', b'"version": 99'),
    ],
)
def test_torn_or_foreign_journal_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j.json"
    path.write_bytes(content)
    with Journal(path) as journal:
        assert journal.load() is None


def test_journals_differ_by_server_drive_path_and_file(tmp_path: Path) -> None:
    places = [
        ("a:1", "d", "p", Path("f")),
        ("a:2", "d", "p", Path("f")),
        ("a:1", "e", "p", Path("f")),
        ("a:1", "d", "q", Path("f")),
        ("a:1", "d", "p", Path("g")),
        ("a:1", "dp", "", Path("f")),
    ]
    assert len({open_journal(tmp_path, *place).path for place in places}) == len(places)


def test_journals_that_no_upload_outlives_are_pruned(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with Journal(tmp_path / "uploads" / f"{name}.json") as journal:
            journal.save(Entry.new(IDENTITY, 8, ""))
    nine_days_ago = time.time() - 9 * 86_400
    os.utime(tmp_path / "uploads" / "old.json", (nine_days_ago, nine_days_ago))
    (tmp_path / "runs").mkdir()
    old_run = tmp_path / "runs" / "old.jsonl"
    old_run.touch()
    os.utime(old_run, (nine_days_ago, nine_days_ago))
    assert prune(tmp_path) == 2
    assert not old_run.exists()
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == ["new.json"]


def test_state_directory_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_STATE_DIR", str(tmp_path / "named"))
    assert state_dir(None) == tmp_path / "named"
    assert state_dir(tmp_path) == tmp_path
    monkeypatch.delenv("SLUICE_STATE_DIR")
    assert state_dir(None).name == "sluice"
