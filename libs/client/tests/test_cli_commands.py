"""The command as a process: its output and its exit code."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import grpc
import pytest

from support.command import Command, ended
from support.fake_intake import CHUNK_BYTES, FakeIntake
from support.fake_repository import FakeRepository
from support.scripted_faults import Break, CallFault, StreamFault

DATA = random.Random(6).randbytes(6 * CHUNK_BYTES + 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    (folder / "large").write_bytes(DATA)
    (folder / "sub" / "small").write_bytes(b"small")
    (folder / "empty").write_bytes(b"")
    return folder


async def test_folder_goes_up_with_one_json_line_per_file(
    sluice: Command, intake: FakeIntake, folder: Path
) -> None:
    outcome = await sluice("upload", folder, "--drive", "d", "--prefix", "p", "--json", "--sha256")
    assert outcome.code == 0, outcome.err
    assert {(line["status"], line["path"], line["size"]) for line in outcome.lines} == {
        ("completed", "p/photos/large", len(DATA)),
        ("completed", "p/photos/sub/small", 5),
        ("completed", "p/photos/empty", 0),
    }
    assert {one.request.path: one.data for one in intake.completed} == {
        "p/photos/large": DATA,
        "p/photos/sub/small": b"small",
        "p/photos/empty": b"",
    }
    assert all(len(line["sha256"]) == 64 for line in outcome.lines)
    assert "3 files uploaded" in outcome.err


async def test_summary_goes_to_standard_error(sluice: Command, folder: Path) -> None:
    outcome = await sluice("upload", folder, "--drive", "d")
    assert outcome.out == b""
    assert outcome.err.splitlines()[-1].startswith("3 files uploaded, 384 KiB")


async def test_unreadable_files_are_named_and_the_rest_is_uploaded(
    sluice: Command, intake: FakeIntake, folder: Path
) -> None:
    (folder / "link").symlink_to("large")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_bytes(b"")
    (folder / "new\nline").write_bytes(b"")
    secret = folder / "secret"
    secret.mkdir(mode=0o000)
    outcome = await sluice("upload", folder, folder / "nothing", "--drive", "d", "--json")
    secret.chmod(0o700)
    assert outcome.code == 1
    reasons = sorted(line["reason"] for line in outcome.lines if line["status"] == "failed")
    assert [reason for reason in reasons if reason != "UNREADABLE"] == [
        "NAME_HAS_CONTROL_CHARACTERS",
        "NAME_NOT_UTF8",
        "NOT_FOUND",
    ]
    skipped = [line["reason"] for line in outcome.lines if line["status"] == "skipped"]
    assert skipped == ["SYMBOLIC_LINK"]
    assert len(intake.completed) == 3


async def test_one_refused_file_does_not_stop_the_others(
    sluice: Command, intake: FakeIntake, folder: Path
) -> None:
    taken = CallFault(grpc.StatusCode.ALREADY_EXISTS, reason="PATH_EXISTS")
    intake.call_faults["InitiateUpload"] = [taken]
    outcome = await sluice("upload", folder, "--drive", "d", "--if-absent", "--json")
    assert outcome.code == 1
    assert sorted(line["status"] for line in outcome.lines) == ["completed", "completed", "failed"]
    assert "PATH_EXISTS" in outcome.err


async def test_next_run_skips_finished_files(
    sluice: Command, intake: FakeIntake, repository: FakeRepository, folder: Path
) -> None:
    (folder / "new\nline").write_bytes(b"")
    first = await sluice("upload", folder, "--drive", "d", "--json")
    assert first.code == 1
    for line in first.lines:
        if line["status"] == "completed":
            node = repository.put("d", line["path"], b"x" * line["size"])
            node.node_id = line["node_id"]
    superseded = repository.nodes["d:photos/empty"]
    superseded.node_id = "uploaded-by-somebody-else"
    (folder / "new\nline").unlink()
    intake.calls.clear()
    second = await sluice("upload", folder, "--drive", "d", "--json")
    assert second.code == 0
    sent = {line["path"]: line["sent_bytes"] for line in second.lines}
    assert sent.keys() == {"photos/large", "photos/sub/small", "photos/empty"}
    assert sum(sent.values()) == 0
    assert intake.calls["InitiateUpload"] == 1, "only the node that is not ours any more"
    assert "384 KiB skipped" in second.err


async def test_interrupted_upload_says_how_to_resume_and_resumes(
    sluice: Command, intake: FakeIntake, folder: Path
) -> None:
    intake.hold_from = 3
    process = await sluice.start("upload", str(folder / "large"), "--drive", "d", "--json")
    await intake.received(3)
    process.send_signal(signal.SIGINT)
    first = await ended(process)
    assert first.code == 130
    assert "same command again" in first.err
    assert first.out == b""
    intake.hold_from = None
    second = await sluice("upload", folder / "large", "--drive", "d", "--json")
    assert second.code == 0, second.err
    assert second.lines[0]["skipped_bytes"] >= 3 * CHUNK_BYTES
    assert "skipped because an earlier run had sent them" in second.err
    assert intake.completed[0].data == DATA
    assert intake.resent == []


async def test_killed_upload_resumes(sluice: Command, intake: FakeIntake, folder: Path) -> None:
    intake.hold_from = 3
    process = await sluice.start("upload", str(folder / "large"), "--drive", "d")
    await intake.received(3)
    process.kill()
    await process.communicate()
    intake.hold_from = None
    outcome = await sluice("upload", folder / "large", "--drive", "d", "--json")
    assert outcome.lines[0]["upload_id"] == "n1-1"
    assert outcome.lines[0]["skipped_bytes"] >= 3 * CHUNK_BYTES
    assert intake.resent == []


async def test_terminated_upload_stops_cleanly(
    sluice: Command, intake: FakeIntake, folder: Path
) -> None:
    intake.hold_from = 3
    process = await sluice.start("upload", str(folder / "large"), "--drive", "d")
    await intake.received(3)
    process.terminate()
    assert (await ended(process)).code == 143


async def test_missing_server_exits_69(sluice: Command, folder: Path) -> None:
    outcome = await sluice("upload", folder, "--drive", "d", SLUICE_SERVER="127.0.0.1:1")
    assert outcome.code == 69
    assert "sluice serve" in outcome.err


@pytest.mark.parametrize("reason", ["BAD_TOKEN", "TOKEN_EXPIRED"])
async def test_refused_token_exits_77(
    sluice: Command, intake: FakeIntake, folder: Path, reason: str
) -> None:
    intake.call_faults["GetLimits"] = [CallFault(grpc.StatusCode.UNAUTHENTICATED, reason=reason)]
    outcome = await sluice("upload", folder, "-d", "d", "--parallel", "1", SLUICE_TOKEN="t")
    assert outcome.code == 77
    assert f"[{reason}]" in outcome.err.splitlines()[-1]
    assert intake.tokens == ["Bearer t"]


async def test_invalid_setting_exits_78_and_is_named(sluice: Command) -> None:
    outcome = await sluice("drive", "list", SLUICE_SERVER="nonsense")
    assert outcome.code == 78
    assert "SLUICE_SERVER" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["upload", "x"],
        ["upload", "--drive", "d"],
        ["upload", "x", "--drive", "d", "--parallel", "0"],
        ["upload", "x", "--drive", "a:b"],
        ["stat", "no-colon"],
        ["stat", "d:"],
        ["get", "d:p/"],
        ["get", "d:p", "-", "--json"],
        ["get", "d:p", "-", "--recursive"],
        ["nonsense"],
    ],
)
async def test_usage_error_exits_2(sluice: Command, arguments: list[str]) -> None:
    assert (await sluice(*arguments)).code == 2


async def test_server_may_be_named_before_or_after_the_command(
    sluice: Command, repository: FakeRepository
) -> None:
    repository.put("d", "p", b"x")
    address = sluice.environment["SLUICE_SERVER"]
    for arguments in (["--server", address, "ls", "d:"], ["ls", "d:", "--server", address]):
        assert (await sluice(*arguments, SLUICE_SERVER="127.0.0.1:1")).code == 0


async def test_listing_asking_and_removing(sluice: Command, repository: FakeRepository) -> None:
    for number in range(5):
        repository.put("d", f"a/{number}", bytes(number))
    listed = await sluice("ls", "d:a/", "--json")
    assert [line["path"] for line in listed.lines] == [f"a/{n}" for n in range(5)]
    limited = await sluice("ls", "d:a/", "--limit", "3")
    assert limited.out.decode().count("\n") == 3
    asked = await sluice("stat", "d:a/4", "--json")
    assert (asked.lines[0]["size"], asked.lines[0]["path"]) == (4, "a/4")
    assert b"a/4" in (await sluice("stat", "d:a/4")).out
    assert (await sluice("rm", "d:a/4")).code == 0
    gone = await sluice("stat", "d:a/4")
    assert gone.code == 1
    assert "NODE_NOT_FOUND" in gone.err


async def test_drives_are_created_and_listed(sluice: Command) -> None:
    created = await sluice("drive", "create", "photos", "--integrity", "crc", "--require-uniform")
    assert created.code == 0, created.err
    (line,) = (await sluice("drive", "list", "--json")).lines
    assert line["name"] == "photos"
    assert line["policy"]["integrity"] == "crc"
    assert line["policy"]["require_uniform"] is True


async def test_uploads_are_shown_watched_and_aborted(sluice: Command, intake: FakeIntake) -> None:
    intake.stream_faults = [StreamFault(0, Break.DENIED)]
    await sluice("upload", __file__, "--drive", "d", "--chunk-size", "100")
    (upload_id,) = intake.uploads
    (line,) = (await sluice("uploads", "--json")).lines
    assert (line["upload_id"], line["state"]) == (upload_id, "PENDING")
    assert (await sluice("status", upload_id, "--json")).lines[0]["received_bytes"] == 0
    assert b"ABORTED" in (await sluice("abort", upload_id)).out
    watched = await sluice("watch", upload_id)
    assert (watched.code, b"ABORTED" in watched.out) == (1, True)
    assert (await sluice("status", "no-such-upload")).code == 1


async def test_get_writes_to_file_folder_and_standard_output(
    sluice: Command, repository: FakeRepository, tmp_path: Path
) -> None:
    repository.put("d", "a/file", DATA)
    (tmp_path / "into").mkdir()
    for destination, target in (("named", "named"), ("into", "into/file")):
        outcome = await sluice("get", "d:a/file", tmp_path / destination, "--json")
        assert outcome.lines[0]["destination"] == str(tmp_path / target)
        assert (tmp_path / target).read_bytes() == DATA
    outcome = await sluice("get", "d:a/file", "-")
    assert (outcome.code, outcome.out) == (0, DATA)


async def test_get_recursive_downloads_the_prefix(
    sluice: Command, repository: FakeRepository, tmp_path: Path
) -> None:
    repository.break_after_blocks = [1, 2, 0]
    contents = {f"a/b/{n}/file": random.Random(n).randbytes(n * 9000) for n in range(7)}
    for path, data in contents.items():
        repository.put("d", path, data)
    outcome = await sluice("get", "d:a/b", tmp_path / "back", "--recursive", "--json")
    assert outcome.code == 0, outcome.err
    assert len(outcome.lines) == 7
    for path, data in contents.items():
        assert (tmp_path / "back" / path.removeprefix("a/")).read_bytes() == data


async def test_node_path_cannot_leave_the_destination(
    sluice: Command, repository: FakeRepository, tmp_path: Path
) -> None:
    back = tmp_path / "deep" / "back"
    back.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (back / "link").symlink_to(outside)
    for path in ("../escaped", "a/../../escaped", "/escaped", "link/escaped", "a//b", "good"):
        repository.put("d", path, b"x")
    outcome = await sluice("get", "d:", back, "--recursive", "--json")
    assert outcome.code == 1
    by_status = {line["path"]: line["status"] for line in outcome.lines}
    assert by_status.pop("good") == "completed"
    assert set(by_status.values()) == {"failed"}
    assert [path.name for path in tmp_path.rglob("escaped")] == []


async def test_prefix_that_names_nothing_is_an_error(sluice: Command, tmp_path: Path) -> None:
    outcome = await sluice("get", "d:nothing", tmp_path / "back", "--recursive")
    assert outcome.code == 1
    assert "d:nothing" in outcome.err


async def test_closed_pipe_is_not_an_error(sluice: Command, repository: FakeRepository) -> None:
    for number in range(30):
        repository.put("d", f"{number:04}" + "x" * 900, b"")
    process = await sluice.start("ls", "d:", "--json")
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]
    assert process.stderr is not None
    assert await process.stderr.read() == b""
    assert await process.wait() == 141


async def test_version_is_printed(sluice: Command) -> None:
    outcome = await sluice("--version")
    assert outcome.out.startswith(b"sluice 0.")
