"""`tools/services.py`: idempotent, fast, and harmless to other processes.

Mostly with Redis alone, the fastest of the four; what all services share is tested with one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer
from redis import Redis

from support.redis_server import binary

TOOL = Path(__file__).resolve().parents[2] / "tools" / "services.py"
SECONDS = 120.0


class Tool:
    """The program, on a temporary state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def run(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(environment),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def command(self, *arguments: str) -> Sequence[str]:
        return [sys.executable, str(TOOL), *arguments]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, "SLUICE_SERVICES_DIR": str(self.state), **(more or {})}

    def succeed(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def published(self) -> dict[str, dict[str, str]]:
        facts: dict[str, dict[str, str]] = json.loads((self.state / "services.json").read_text())
        return facts

    def record(self, service: str = "redis") -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.state / service / "process.json").read_text())
        return record

    def write_record(self, **changes: object) -> None:
        path = self.state / "redis" / "process.json"
        path.write_text(json.dumps({**self.record(), **changes}))


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    binary("redis-server")
    tool = Tool(tmp_path / "state")
    yield tool
    tool.run("down")


@pytest.fixture
def broken_redis(tmp_path: Path) -> Mapping[str, str]:
    """An environment whose redis-server prints an error and exits."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "redis-server"
    program.write_text("#!/bin/sh\necho 'the moon is full' >&2\nexit 3\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def ping(url: str) -> bool:
    client = Redis.from_url(url)
    try:
        return bool(client.ping())
    finally:
        client.close()


def test_second_up_finds_the_server_of_the_first(tool: Tool) -> None:
    tool.succeed("up", "redis")
    first = tool.record()
    again = tool.run("up", "redis")
    assert again.returncode == 0
    assert "already runs" in again.stderr
    assert tool.record() == first
    assert ping(tool.published()["redis"]["url"])


def test_concurrent_ups_start_one_server(tool: Tool) -> None:
    both = [
        subprocess.Popen(
            tool.command("up", "redis"),
            env=tool.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    reports = [process.communicate(timeout=SECONDS)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], reports
    assert sorted("already runs" in report for report in reports) == [False, True]


def test_up_after_down_keeps_data_and_port(tool: Tool) -> None:
    tool.succeed("up", "redis")
    url = tool.published()["redis"]["url"]
    with Redis.from_url(url) as client:
        client.set("kept", "yes")
    process = psutil.Process(tool.record()["pid"])
    tool.succeed("down")
    assert not process.is_running()
    assert not (tool.state / "services.json").exists()
    tool.succeed("up", "redis")
    assert tool.published()["redis"]["url"] == url
    with Redis.from_url(url) as client:
        assert client.get("kept") == b"yes"


def test_down_wipe_removes_the_data(tool: Tool) -> None:
    tool.succeed("up", "redis")
    tool.succeed("down", "--wipe")
    assert not (tool.state / "redis").exists()


def test_down_without_anything_running_is_fine(tool: Tool) -> None:
    assert tool.run("down").returncode == 0


def test_killed_server_is_restarted_and_a_reused_pid_ignored(
    tool: Tool,
) -> None:
    tool.succeed("up", "redis")
    psutil.Process(tool.record()["pid"]).kill()
    # The PID now belongs to another process: this test.
    tool.write_record(pid=os.getpid())
    assert tool.run("down").returncode == 0
    tool.succeed("up", "redis")
    assert tool.record()["pid"] != os.getpid()
    assert ping(tool.published()["redis"]["url"])


def test_server_that_ignores_sigterm_is_killed(tool: Tool, tmp_path: Path) -> None:
    tool.succeed("up", "redis")
    process = psutil.Process(tool.record()["pid"])
    process.suspend()  # SIGTERM stays pending until the process continues, which it never does
    done = tool.run("down")
    assert done.returncode == 0
    assert "killed" in done.stderr
    assert not process.is_running()


def test_taken_port_is_replaced(tool: Tool) -> None:
    tool.succeed("up", "redis")
    port = tool.record()["ports"]["redis"]
    tool.succeed("down")
    with socket.create_server(("127.0.0.1", port)):
        tool.succeed("up", "redis")
        assert tool.record()["ports"]["redis"] != port


def test_server_that_exits_at_once_is_explained_and_cleaned_up(
    tool: Tool, broken_redis: Mapping[str, str]
) -> None:
    done = tool.run("up", "redis", environment=broken_redis)
    assert done.returncode == 1
    assert "redis: the server ended while it started" in done.stderr
    assert "the moon is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tool.state / "services.json").exists()


def test_unknown_service_is_refused(tool: Tool) -> None:
    done = tool.run("up", "postgres")
    assert done.returncode == 2
    assert "there is no service 'postgres'" in done.stderr


def test_damaged_record_is_named(tool: Tool) -> None:
    (tool.state / "redis").mkdir(parents=True)
    record = tool.state / "redis" / "process.json"
    record.write_text("{")
    done = tool.run("up", "redis")
    assert done.returncode == 1
    assert f"{record} is damaged" in done.stderr
    record.unlink()


def test_status_says_what_answers(tool: Tool) -> None:
    tool.succeed("up", "redis")
    done = tool.run("status")
    assert done.returncode == 1, "not all four run"
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert tool.published()["redis"]["url"] in lines["redis"]
    assert lines["kafka"] == "does not run"


def test_env_is_for_a_shell(tool: Tool) -> None:
    tool.succeed("up", "redis")
    script = (
        f'eval "$({sys.executable} {TOOL} env)" && echo "$SLUICE_COORDINATION $SLUICE_REDIS__URL"'
    )
    shown = subprocess.run(
        ["sh", "-c", script],
        env=tool.environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert shown.stdout.split() == ["redis", tool.published()["redis"]["url"]]


def test_mock_of_kafka_is_called_a_mock_and_takes_messages(tool: Tool) -> None:
    mock = {"SLUICE_SERVICES_KAFKA": "mock"}
    done = tool.run("up", "kafka", environment=mock)
    assert done.returncode == 0, done.stderr
    assert "THIS IS A MOCK" in done.stderr
    facts = tool.published()["kafka"]
    assert facts["kind"] == "mock"
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": facts["bootstrap_servers"]})
    producer.produce("topic", b"message", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(20) == 0
    assert errors == [None]


@pytest.mark.slow
def test_run_starts_services_for_the_command_and_stops_them(tool: Tool) -> None:
    tool.succeed("up", "redis")
    script = (
        "import json, os, pathlib, sys;"
        "print(*json.loads((pathlib.Path(os.environ['SLUICE_SERVICES_DIR']) / 'services.json')"
        ".read_text()));"
        "sys.exit(7)"
    )
    done = tool.run("run", "--", sys.executable, "-c", script)
    assert done.returncode == 7, done.stderr
    assert sorted(done.stdout.split()) == ["kafka", "mysql", "redis", "s3"]
    assert list(tool.published()) == ["redis"], "it ran before, so it goes on"


@pytest.mark.slow
def test_sigterm_ends_the_command_and_its_services(tool: Tool) -> None:
    begun = tool.state.parent / "begun"
    running = subprocess.Popen(
        tool.command("run", "--", "sh", "-c", f"touch {begun}; exec sleep 300"),
        env=tool.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + SECONDS
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    running.terminate()
    report = running.communicate(timeout=SECONDS)[1]
    assert running.returncode == 128 + signal.SIGTERM, report
    assert not (tool.state / "services.json").exists(), report


@pytest.mark.slow
def test_first_of_two_runs_leaves_the_services_to_the_second(tool: Tool) -> None:
    def begin(name: str) -> subprocess.Popen[str]:
        """Start a run whose command has begun, and ends when `end` is called with its name."""
        begun, ended = (tool.state.parent / f"{name}-{what}" for what in ("begun", "ended"))
        script = f"touch {begun}; while [ ! -e {ended} ]; do sleep 0.1; done"
        run = subprocess.Popen(
            tool.command("run", "--", "sh", "-c", script),
            env=tool.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + SECONDS
        while not begun.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return run

    def end(name: str, run: subprocess.Popen[str]) -> str:
        (tool.state.parent / f"{name}-ended").touch()
        report = run.communicate(timeout=SECONDS)[1]
        assert run.returncode == 0, report
        return report

    first, second = begin("first"), begin("second")
    assert "left running: another command uses them" in end("first", first)
    end("second", second)
    assert sorted(tool.published()) == ["kafka", "mysql", "redis", "s3"]


@pytest.mark.slow
def test_interrupted_up_can_be_taken_down(tool: Tool) -> None:
    process = subprocess.Popen(
        tool.command("up"),
        env=tool.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + SECONDS
    while not (tool.state / "redis" / "process.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(SECONDS)
    pid = tool.record()["pid"]
    tool.succeed("down")
    assert not psutil.pid_exists(pid)
