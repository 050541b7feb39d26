"""Uploads without a writable journal: they proceed with one warning."""

from __future__ import annotations

import errno
import logging
import os
import random
from pathlib import Path
from typing import Any

import pytest

from sluice_client import Client, ClientOptions, PermissionDenied, Progress
from sluice_client.cli.commands.finished_files import FinishedFiles
from sluice_client.cli.commands.scan import LocalFile
from sluice_client.model import FileIdentity
from sluice_client.uploads.journal import Journal, home_dir, prune, state_dir
from support.fake_intake import CHUNK_BYTES, FakeIntake
from support.scripted_faults import Break, StreamFault

DATA = random.Random(12).randbytes(4 * CHUNK_BYTES + 5)


class Notices(list[str]):
    """Progress callback that records the notices."""

    def __call__(self, progress: Progress) -> None:
        if progress.notice:
            self.append(progress.notice)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(DATA)
    return path


def failing(number: int) -> Any:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/a/journal")

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("method", ["__enter__", "load", "save", "remove"])
async def test_journal_that_fails_stops_no_upload(
    client: Client,
    intake: FakeIntake,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    number: int,
) -> None:
    monkeypatch.setattr(Journal, method, failing(number))
    notices = Notices()
    for path in ("one", "two"):
        await client.upload(file, drive="d", path=path, on_progress=notices)
    assert [one.data for one in intake.completed] == [DATA, DATA]
    (notice,) = notices
    assert "SLUICE_STATE_DIR" in notice
    assert "/a/journal" in notice
    assert os.strerror(number) in notice


async def test_state_dir_that_is_a_file_stops_no_upload(
    client: Client, intake: FakeIntake, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a callback the warning goes to the log."""
    assert client.options.state_dir is not None
    client.options.state_dir.write_bytes(b"")
    with caplog.at_level(logging.WARNING, "sluice_client"):
        await client.upload(file, drive="d", path="p")
    assert intake.completed[0].data == DATA
    assert ["SLUICE_STATE_DIR" in record.getMessage() for record in caplog.records] == [True]


async def test_upload_without_journal_that_fails_is_aborted(
    client: Client, intake: FakeIntake, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run can resume it, so it must not hold the server's budget."""
    monkeypatch.setattr(Journal, "save", failing(errno.ENOSPC))
    intake.stream_faults = [StreamFault(5, Break.DENIED)]
    with pytest.raises(PermissionDenied):
        await client.upload(file, drive="d", path="p", streams=1)
    assert intake.calls["AbortUpload"] == 1


async def test_disk_full_after_the_first_entry_stays_resumable(
    client: Client, intake: FakeIntake, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry on disk has the request id, which leads to the same upload."""
    save = Journal.save

    def save_once(journal: Journal, entry: Any) -> None:
        if entry.upload_id:
            raise OSError(errno.ENOSPC, "full", str(journal.path))
        save(journal, entry)

    monkeypatch.setattr(Journal, "save", save_once)
    intake.stream_faults = [StreamFault(9, Break.DENIED)]
    with pytest.raises(PermissionDenied):
        await client.upload(file, drive="d", path="p", streams=1)
    monkeypatch.setattr(Journal, "save", save)
    result = await client.upload(file, drive="d", path="p")
    assert result.upload_id == "n1-1"
    assert intake.completed[0].data == DATA


async def test_missing_home_is_not_made(
    address: str,
    intake: FakeIntake,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "nonexistent"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("SLUICE_STATE_DIR", raising=False)
    notices = Notices()
    async with Client(address, options=ClientOptions()) as client:
        await client.upload(file, drive="d", path="p", on_progress=notices)
    assert intake.completed[0].data == DATA
    assert len(notices) == 1
    assert str(home) in notices[0]
    assert not home.exists()


def test_unknown_home_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("SLUICE_STATE_DIR", raising=False)
    assert home_dir() is None
    with pytest.raises(FileNotFoundError, match="home"):
        state_dir(None)


def test_full_disk_leaves_no_half_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sluice_client.uploads.journal import Entry

    entry = Entry.new(FileIdentity(1, 2, 3, 4, 5), 8, "")
    with Journal(tmp_path / "j.json") as journal:
        journal.save(entry)
        monkeypatch.setattr(Path, "replace", failing(errno.ENOSPC))
        with pytest.raises(OSError, match="No space"):
            journal.save(entry.named("u"))
        assert journal.load() == entry
    assert [path.name for path in tmp_path.iterdir()] == ["j.json"]


def test_folder_that_cannot_be_pruned_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "old.json").touch()
    monkeypatch.setattr(Path, "unlink", failing(errno.EROFS))
    assert prune(tmp_path, now=1e12) == 0


def test_finished_files_have_the_identity_that_was_read(tmp_path: Path) -> None:
    """A newer file of the same size at the same path has another identity."""
    source = tmp_path / "file"
    source.write_bytes(b"old")
    file = LocalFile(str(source), "file", 3)
    read = FileIdentity.of(source.stat())
    (tmp_path / "new").write_bytes(b"new")
    os.utime(tmp_path / "new", ns=(read.mtime_ns, read.mtime_ns))
    os.rename(tmp_path / "new", source)
    failures: list[OSError] = []
    with FinishedFiles(tmp_path / "state", ["x"], failures.append) as finished:
        finished.add(file, read, "node")
    with FinishedFiles(tmp_path / "state", ["x"], failures.append) as finished:
        assert finished.node_id(file) is None
        finished.add(file, FileIdentity.of(source.stat()), "newer")
    with FinishedFiles(tmp_path / "state", ["x"], failures.append) as finished:
        assert finished.node_id(file) == "newer"
    assert failures == []


def test_finished_list_that_cannot_be_kept_reports_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "file"
    source.touch()
    file = LocalFile(str(source), "file", 0)
    failures: list[OSError] = []
    with FinishedFiles(tmp_path / "state", ["x"], failures.append) as finished:
        monkeypatch.setattr(os, "write", failing(errno.ENOSPC))
        for _ in range(2):
            finished.add(file, FileIdentity.of(source.stat()), "node")
        finished.forget()
    assert [error.errno for error in failures] == [errno.ENOSPC]
    assert failures[0].filename is not None


@pytest.mark.parametrize("directory", [None, Path("/proc/nowhere")])
def test_finished_list_without_a_folder_is_empty(directory: Path | None) -> None:
    failures: list[OSError] = []
    with FinishedFiles(directory, ["x"], failures.append) as finished:
        file = LocalFile("/dev/null", "x", 0)
        finished.add(file, FileIdentity(1, 2, 3, 4, 5), "node")
        assert finished.node_id(file) is None
        finished.forget()
    assert len(failures) == (directory is not None)
