"""`sluice upload` of links, pipes and standard input, and of invalid sources."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sluice_client import Client, Phase, Progress
from sluice_client.cli.app import app
from sluice_client.cli.commands.upload import UploadOptions, UploadRun
from sluice_client.cli.display import Display
from sluice_client.cli.output import Output
from sluice_client.progress import Meter
from sluice_client.uploads import completion as completing
from support.command import Command, ended
from support.fake_intake import CHUNK_BYTES, FakeIntake
from support.fake_repository import FakeRepository
from support.scripted_faults import Break, StreamFault

DATA = random.Random(13).randbytes(3 * CHUNK_BYTES + 1)


async def upload(client: Client, *paths: Path, name: str | None = None) -> int:
    options = UploadOptions(paths=[str(path) for path in paths], drive="d", name=name)
    return await UploadRun(client, Output(json_lines=True), options).run()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def test_named_links_are_uploaded(client: Client, intake: FakeIntake, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(DATA)
    (folder / "inner").symlink_to("file")
    (tmp_path / "to-file").symlink_to("folder/file")
    (tmp_path / "to-folder").symlink_to("folder")
    assert await upload(client, tmp_path / "to-file", tmp_path / "to-folder") == 0
    assert {one.request.path: one.data for one in intake.completed} == {
        "to-file": DATA,
        "to-folder/file": DATA,
    }


async def test_named_link_that_leads_nowhere_is_exit_1(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    assert await upload(client, tmp_path / "dangling") == 1
    assert [line["reason"] for line in lines(capsys)] == ["NOT_FOUND"]


async def test_fifo_is_uploaded_under_its_given_name(
    client: Client, intake: FakeIntake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    uploading = asyncio.create_task(upload(client, pipe, name="a/b"))
    await asyncio.to_thread(pipe.write_bytes, DATA)
    assert await uploading == 0
    assert [(one.request.path, one.data) for one in intake.completed] == [("a/b", DATA)]
    assert [line["size"] for line in lines(capsys)] == [len(DATA)]


async def test_newer_file_is_sent_by_the_next_run(
    client: Client, intake: FakeIntake, repository: FakeRepository, tmp_path: Path
) -> None:
    """A rename replaces the file during its upload; another failure keeps the list of the run."""
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "file"
    file.write_bytes(DATA)
    (folder / "new\nline").touch()
    (tmp_path / "new").write_bytes(bytes(len(DATA)))
    intake.hold_from = 2
    uploading = asyncio.create_task(upload(client, folder))
    await intake.received(2)
    os.rename(tmp_path / "new", file)
    await intake.release()
    assert await uploading == 1
    (first,) = intake.completed
    assert first.data == DATA
    node = repository.put("d", "folder/file", DATA)
    node.node_id = f"node-{first.upload_id}"
    assert await upload(client, folder) == 1
    assert [one.data for one in intake.completed] == [DATA, bytes(len(DATA))]


async def test_state_dir_that_cannot_be_written_is_one_warning(
    client: Client, intake: FakeIntake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client.options.state_dir is not None
    client.options.state_dir.write_bytes(b"")
    for name in ("one", "two", "three"):
        (tmp_path / name).write_bytes(DATA)
    assert await upload(client, *(tmp_path / name for name in ("one", "two", "three"))) == 0
    assert len(intake.completed) == 3
    err = capsys.readouterr().err
    assert err.count("SLUICE_STATE_DIR") == 1


async def test_standard_input_is_uploaded(sluice: Command, intake: FakeIntake) -> None:
    """As `-`, and as /dev/fd/N, which a shell passes for `<(…)`."""
    read_end, write_end = os.pipe()
    process = await sluice.start("upload", "-", "--drive", "d", "--name", "n", stdin=read_end)
    os.close(read_end)
    await asyncio.to_thread(_write_all, write_end, DATA)
    assert (await ended(process)).code == 0
    read_end, write_end = os.pipe()
    source = f"/dev/fd/{read_end}"
    process = await sluice.start(
        "upload", source, "--drive", "d", "--name", "m", pass_fds=(read_end,)
    )
    os.close(read_end)
    await asyncio.to_thread(_write_all, write_end, b"small")
    assert (await ended(process)).code == 0
    assert {one.request.path: one.data for one in intake.completed} == {"n": DATA, "m": b"small"}


def _write_all(descriptor: int, data: bytes) -> None:
    with open(descriptor, "wb") as file:
        file.write(data)


async def test_upload_of_a_silent_pipe_can_be_interrupted(
    sluice: Command, intake: FakeIntake
) -> None:
    read_end, write_end = os.pipe()
    process = await sluice.start("upload", "-", "--drive", "d", "--name", "n", stdin=read_end)
    os.close(read_end)
    await asyncio.to_thread(os.write, write_end, DATA)
    await intake.received(1)
    process.send_signal(signal.SIGINT)
    assert (await ended(process)).code == 130
    os.close(write_end)


@pytest.mark.parametrize(
    "arguments",
    [
        ["upload", "-", "-d", "d"],
        ["upload", "/dev/stdin", "-d", "d"],
        ["upload", "/dev/fd/63", "-d", "d"],
        ["upload", "a", "b", "-d", "d", "--name", "n"],
        ["upload", "a", "-d", "d", "--name", "../n"],
        ["upload", "a", "-d", "d\udcff"],
        ["upload", "a", "-d", "d", "--prefix", "\udcff"],
        ["upload", "a", "-d", "d", "--name", "\udcff"],
        ["upload", "a", "-d", "d", "--content-type", "\udcff"],
        ["ls", "d:\udcff"],
        ["ls", "d\udcff:"],
        ["stat", "d:\udcff"],
        ["rm", "d:\udcff"],
        ["get", "d:\udcff"],
        ["get", "-r", "d:\udcff"],
        ["status", "\udcff"],
        ["watch", "\udcff"],
        ["abort", "\udcff"],
        ["uploads", "--state", "\udcff"],
        ["drive", "create", "d\udcff"],
        ["drive", "create", "d", "--bucket", "\udcff"],
        ["drive", "create", "d", "--key-prefix", "\udcff"],
        ["drive", "list", "--token", "secret"],
        ["--server", "\udcff:1", "drive", "list"],
        ["drive", "list", "--server", "\udcff:1"],
        ["\udcff"],
        ["ls", "--\udcff", "d:"],
    ],
)
def test_invalid_argument_exits_2(arguments: list[str]) -> None:
    outcome = CliRunner().invoke(app, arguments)
    assert (outcome.exit_code, type(outcome.exception)) == (2, SystemExit)


async def test_undecodable_argument_exits_2(sluice: Command) -> None:
    """The arguments are raw bytes, as from a shell; the message may go to a pipe."""
    outcome = await sluice("ls", b"d:\xff")
    assert outcome.code == 2
    assert "UTF-8" in outcome.err


def test_names_are_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(json_lines=False)
    name = "photo:key:[bold]1[/bold]\\[x] \x1b[31m\u202e\u2028.txt"
    out.message(f"failed   {name}: x")
    out.error(name)
    out.result({}, name)
    shown = "photo:key:[bold]1[/bold]\\[x] \\x1b[31m\\u202e\\u2028.txt"
    captured = capsys.readouterr()
    assert captured.out == f"{shown}\n"
    assert captured.err == f"failed   {shown}: x\nsluice: {shown}\n"


def test_bar_shows_names_as_they_are_and_what_a_wait_is_for() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=300, color_system=None)
    moment = Progress(Phase.WAITING, 10**9, 0, 0, 0, 0, waiting_for="the server's [bold]disk[/]")
    with Display(console, "Uploading") as display, display.bar(":key:[red]\x1b[1m", 10**9) as bar:
        bar.update(moment)
        display._bars.refresh()
        shown = written.getvalue()
        written.truncate(0)
        bar.update(Progress(Phase.SENDING, 10**9, 0, 0, 0, 0))
        display._bars.refresh()
        later = written.getvalue()
    assert ":key:[red]\\x1b[1m (waiting: the server's [bold]disk[/])" in shown
    assert "Uploading (waiting: the server's [bold]disk[/])" in shown
    assert "waiting" not in later


async def test_full_server_is_named_while_the_upload_waits(
    client: Client, intake: FakeIntake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(DATA)
    intake.stream_faults = [StreamFault(2, Break.BUDGET_FULL)]
    seen: list[Progress] = []
    await client.upload(tmp_path / "file", drive="d", path="p", on_progress=seen.append)
    waits = [one for one in seen if one.phase is Phase.WAITING]
    assert waits
    assert all("BUDGET_FULL" in one.waiting_for for one in waits)
    assert seen[-1].waiting_for == ""


async def test_long_completion_says_what_it_waits_for(
    client: Client, intake: FakeIntake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "_WATCH_SECONDS", 0.2)
    intake.hold_completing = 2
    intake.silent_watches = 1
    seen: list[str] = []
    await client.upload(
        DATA, drive="d", path="p", on_progress=lambda moment: seen.append(moment.waiting_for)
    )
    assert any("not assembled the object yet" in what for what in seen)
    assert seen[-1] == ""


def test_long_wait_is_a_notice_once_until_something_moves() -> None:
    seen: list[Progress] = []
    meter = Meter(seen.append, None)
    for idle_seconds in (1.0, 6.0, 12.0):
        meter.wait(Phase.WAITING, "the server's disk is full", idle_seconds)
    assert [one.notice for one in seen if one.notice] == ["waiting: the server's disk is full"]
    meter.accepted(1)
    meter.wait(Phase.WAITING, "the server's disk is full", 6.0)
    assert len([one.notice for one in seen if one.notice]) == 2
