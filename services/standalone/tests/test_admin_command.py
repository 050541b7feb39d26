"""`sluice admin` on a data directory, with its server and without one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice_common.process import command
from sluice_standalone.admin_command import admin
from support.admin import Line, json_lines, of_kind
from support.cli import Sluice
from support.environment import process_environment
from support.server import standalone

COMMAND_SECONDS = 120.0

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command in this process: exit code and what it printed."""
    monkeypatch.setattr(command, "configure_logging", lambda *_: None)
    monkeypatch.setattr(command, "log_uncaught_errors", lambda: None)

    def run_admin(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = admin(["--data-dir", str(tmp_path / "data"), *arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run_admin


def lines_of(result: tuple[int, str, str], code: int = 0) -> list[Line]:
    assert result[0] == code, result
    return json_lines(result[1])


def test_directory_of_a_server_from_first_upload_to_last_sweep(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    with standalone(data) as server:
        sluice = Sluice(server.address, tmp_path / "state")
        file = tmp_path / "file.bin"
        file.write_bytes(b"content of a file" * 1000)
        sluice.ok("upload", str(file), "-d", "drive")
        (upload,) = sluice.ok("uploads", "--json").json_lines()
        upload_id = upload["upload_id"]

        lines = lines_of(run("upload", upload_id, "--json"))
        assert of_kind(lines, "upload")[0]["state"] == "COMPLETED"
        assert of_kind(lines, "object")[0]["exists"]
        assert of_kind(lines, "node")[0]["path"] == "file.bin"
        assert not of_kind(lines, "queue"), "the server has its queue to itself"

        assert lines_of(run("drain", "--json"))[-1]["kind"] == "drained"
        assert lines_of(run("verify", "drive", "--checksum", "--json"))[-1]["nodes"] == 1
        code, out, err = run("sweep")
        assert (code, out) == (78, "")
        assert "stop it to sweep from here" in err
        # Looking has not disturbed the server.
        again = tmp_path / "again.bin"
        again.write_bytes(b"again")
        sluice.ok("upload", str(again), "-d", "drive")

    (manifest, *_) = (data / "objects").rglob("manifest.json")
    manifest.unlink()
    lines = lines_of(run("verify", "drive", "--json"), 1)
    assert [line["defect"] for line in of_kind(lines, "defect")] == ["MISSING"]
    swept = of_kind(lines_of(run("sweep", "--json")), "swept")
    works = {line["work"] for line in swept}
    assert {"expired", "cleaned", "deletions"} <= works
    assert "requeued" not in works, "the queue ends with the command"
    assert run("dlq", "list") == (0, "", "")

    # A shell with other settings than the server's.
    monkeypatch.setenv("SLUICE_AUDIT__RETENTION_DAYS", "1")
    for arguments in (("sweep",), ("verify", "drive"), ("upload", upload_id)):
        code, out, err = run(*arguments)
        assert (code, out) == (78, "")
        assert "SLUICE_AUDIT__RETENTION_DAYS is 1 here and 365 there" in err
    monkeypatch.delenv("SLUICE_AUDIT__RETENTION_DAYS")
    monkeypatch.setenv("SLUICE_OBJECTS", "s3")
    code, _, err = run("sweep")
    assert code == 78
    assert "SLUICE_OBJECTS is s3 here and files there" in err
    monkeypatch.delenv("SLUICE_OBJECTS")
    # A directory of an earlier release has no record: nothing tells a sweep what is old.
    (data / "settings.json").unlink()
    code, out, err = run("sweep")
    assert (code, out) == (78, "")
    assert "start and stop the server once" in err
    lines_of(run("upload", upload_id, "--json"))
    # A directory that lacks its catalogue, for example by a wrong copy, gets none.
    (data / "catalogue.sqlite").rename(tmp_path / "catalogue.sqlite")
    code, out, err = run("upload", upload_id)
    assert (code, out) == (78, "")
    assert "has no catalogue" in err
    assert not (data / "catalogue.sqlite").exists()


def test_directory_without_data_is_left_alone(tmp_path: Path, run: Run) -> None:
    for arguments in (("upload", "an-id"), ("sweep",), ("verify", "drive"), ("drain",)):
        code, out, err = run(*arguments)
        assert (code, out) == (78, "")
        assert "has no data of a server" in err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("upload",),
        ("verify",),
        ("drain", "--timeout", "-1"),
        ("drain", "--timeout", "soon"),
        ("dlq",),
    ],
)
def test_usage_errors(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "usage: sluice admin" in err


def test_directory_of_another_release_is_refused(tmp_path: Path, run: Run) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "ledger.sqlite").touch()
    (data / "version").write_text("999")
    for arguments in (("upload", "an-id"), ("sweep",)):
        code, out, err = run(*arguments)
        assert (code, out) == (78, "")
        assert "written by another release (layout 999)" in err


def test_settings_are_shown_without_a_command(tmp_path: Path, run: Run) -> None:
    code, out, _ = run("--show-settings")
    assert code == 0
    assert f"SLUICE_DATA_DIR={tmp_path / 'data'}" in out.splitlines()


def test_sluice_hands_over_and_keeps_the_exit_code(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sluice_client.cli", "admin", "upload", "an-id"],
        env=process_environment(
            {
                "SLUICE_COORDINATION": "memory",
                "SLUICE_OBJECTS": "discard",
                "SLUICE_EVENTS": "off",
                "SLUICE_CATALOGUE": "off",
                "SLUICE_DATA_DIR": str(tmp_path),
            }
        ),
        capture_output=True,
        timeout=COMMAND_SECONDS,
        check=False,
        text=True,
    )
    assert ended.returncode == 78
    assert "in the memory of one process" in ended.stderr
    assert not ended.stdout
