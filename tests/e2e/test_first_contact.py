"""The first session of a new user, from `make run` to Ctrl-C, without unexpected output."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import typer
from click import Context
from typer.testing import CliRunner

from sluice_client.cli.app import app
from support.cli import Sluice
from support.environment import process_environment
from tools.demo_photos import make_photos

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120.0
UPLOADED = re.compile(r"\d+ files? uploaded, \S+ \S+ in \S+ s \(.*\)")
DOWNLOADED = re.compile(r".*: \S+ \S+ in \S+ s, verified")
UNEXPLAINED = re.compile(r"[│|]\s+(\*\s+)?\S+\s+(-\w\s+)?<[^>]*>\s+(\[required\]\s*)?[│|]")
ANY_PORT = {
    "SLUICE_INTAKE_ADDRESS": "127.0.0.1:0",
    "SLUICE_REPOSITORY_ADDRESS": "127.0.0.1:0",
    "SLUICE_METRICS_ADDRESS": "127.0.0.1:0",
    "SLUICE_GATEWAY_ADDRESS": "127.0.0.1:0",
    "SLUICE_OBJECTS_ADDRESS": "127.0.0.1:0",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "made"
    make_photos(folder)
    return folder


def announced(data_dir: Path, process: subprocess.Popen[bytes]) -> str:
    """Return the address of the intake once the server accepts requests."""
    deadline = time.monotonic() + SECONDS
    file = data_dir / "server.json"
    while not file.exists():
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.05)
    return str(json.loads(file.read_text(encoding="utf-8"))["intake"])


def wait_until_processed(sluice: Sluice, node: str) -> str:
    """Return the output of `sluice stat` once the node has been processed."""
    deadline = time.monotonic() + SECONDS
    while True:
        shown = sluice.run("stat", node)
        assert (shown.code, shown.err) == (0, "")
        if "PROCESSED" in shown.out:
            return shown.out
        assert time.monotonic() < deadline, shown.out
        time.sleep(0.2)


def test_serving_a_photo_prints_no_unexpected_lines(tmp_path: Path, photos: Path) -> None:
    """Start, upload, ls, get, stat and Ctrl-C; the processor starts its decoder children."""
    data = tmp_path / "data"
    command = [sys.executable, "-m", "sluice_client.cli", "serve", "--data-dir", str(data)]
    server = subprocess.Popen(
        command,
        env=process_environment(ANY_PORT),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        sluice = Sluice(announced(data, server), tmp_path / "state")
        uploaded = sluice.run("upload", str(photos / "phone.heic"), "--drive", "first")
        assert uploaded.code == 0
        assert UPLOADED.fullmatch(uploaded.err.strip()), uploaded.err
        listed = sluice.run("ls", "first:")
        assert (listed.code, listed.err) == (0, "")
        got = sluice.run("get", "first:phone.heic", str(tmp_path / "copy.heic"))
        assert got.code == 0
        assert DOWNLOADED.fullmatch(got.err.strip()), got.err
        shown = wait_until_processed(sluice, "first:phone.heic")
        names = Counter(re.split(r"\s{2,}", line)[0] for line in shown.splitlines() if line)
        assert names["taken_at"] == names["gps_time"] == 1
        assert max(names.values()) == 1, names
    finally:
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=SECONDS)
    assert server.returncode == 0
    assert err.decode() == ""
    assert out.decode().splitlines()[-1] == "stopped"


def test_ctrl_c_ends_make_run_quietly(tmp_path: Path) -> None:
    """On a terminal, where make receives the signal too."""
    data = tmp_path / "data"
    ours, theirs = pty.openpty()
    begin = (
        "import os, sys; os.setsid(); fd = os.open(sys.argv[1], os.O_RDWR);"
        " [os.dup2(fd, n) for n in (0, 1, 2)]; os.execvp(sys.argv[2], sys.argv[2:])"
    )
    venv = Path(sys.prefix)
    make = ["make", "--no-print-directory", "run", f"VENV={venv}", f"ARGS=--data-dir {data}"]
    make += ["-o", str(venv / ".run")]  # skip the installation
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            [sys.executable, "-c", begin, os.ttyname(theirs), *make],
            env=process_environment(ANY_PORT),
            cwd=ROOT,
        )
        try:
            announced(data, process)
            os.write(terminal.fileno(), b"\x03")
            os.close(theirs)
            shown = b"".join(written(terminal)).decode()
            process.wait(SECONDS)
        finally:
            end(process)
    banner, _, rest = shown.replace("\r\n", "\n").partition("^C")
    names = [line.split()[0] for line in banner.splitlines()]
    assert names == [
        "intake",
        "repository",
        "gateway",
        "log",
        "metrics",
        "data",
        "durability",
        "upload",
    ]
    assert rest == "stopped\n"


def written(terminal: object) -> Iterator[bytes]:
    """Yield the output to a terminal until its last process has closed it."""
    while True:
        try:
            block = os.read(terminal.fileno(), 4096)  # type: ignore[attr-defined]
        except OSError:  # on Linux: no process has it open any more
            return
        if not block:
            return
        yield block


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait(SECONDS)


def commands() -> list[tuple[str, ...]]:
    """Return every command and subcommand of `sluice`, including those of the server."""
    found: list[tuple[str, ...]] = [()]
    root = typer.main.get_command(app)
    pending: list[tuple[tuple[str, ...], object]] = [((), root)]
    while pending:
        path, group = pending.pop()
        context = Context(group)  # type: ignore[arg-type]
        for name in group.list_commands(context):  # type: ignore[attr-defined]
            command = group.get_command(context, name)  # type: ignore[attr-defined]
            found.append((*path, name))
            if hasattr(command, "list_commands"):
                pending.append(((*path, name), command))
    server = [("admin", name) for name in ("upload", "sweep", "verify", "drain", "dlq")]
    return [*found, ("events", "tail"), *server]


@pytest.mark.parametrize("command", commands(), ids=lambda words: "-".join(words) or "sluice")
def test_help_names_no_distribution_and_explains_all(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    if command[:1] in (("serve",), ("events",), ("admin",)):
        # Their distributions configure the process, so they run in a separate one.
        shown = Sluice("127.0.0.1:1", tmp_path).run(*command, "--help")
        assert (shown.code, shown.err) == (0, "")
        text = shown.out
    else:
        result = CliRunner().invoke(app, [*command, "--help"], prog_name="sluice")
        assert (result.exit_code, result.stderr) == (0, "")
        text = result.stdout
    assert "usage: sluice" in text.lower()
    assert "(needs" not in text
    assert not re.search(r"sluice-(common|standalone|client)", text)
    # Every option and argument has a description after its type.
    for line in text.splitlines():
        assert not UNEXPLAINED.fullmatch(line), line
