"""`sluice-intake --workers`: several processes, one port, one stop, no orphans."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub
from sluice_core.uploads.model import MIB
from support.environment import process_environment
from support.intake import frames_of
from support.processes import ServiceProcess
from support.redis_server import RedisServer, free_port

PHASE_3 = {
    "SLUICE_COORDINATION": "redis",
    "SLUICE_CHUNK_TRANSPORT": "redis",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
    "SLUICE_METRICS_ADDRESS": "127.0.0.1:0",
    "SLUICE_DRAIN_SECONDS": "15",
}
WORKERS = 2

pytestmark = pytest.mark.long


@pytest.fixture
def settings() -> Iterator[dict[str, str]]:
    with RedisServer() as redis:
        yield {**PHASE_3, "SLUICE_REDIS__URL": redis.url}


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    return tmp_path / "targets.json"


@pytest.fixture
def intake(settings: dict[str, str], targets: Path, tmp_path: Path) -> Iterator[ServiceProcess]:
    arguments = ("--workers", str(WORKERS), "--metrics-targets", str(targets))
    with ServiceProcess("sluice_intake", tmp_path, settings, *arguments) as process:
        yield process


def workers_of(intake: ServiceProcess) -> list[psutil.Process]:
    return psutil.Process(intake.pid).children()


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def scraped(targets: Path) -> list[str]:
    """Return the metrics of each worker, from the addresses in the targets file."""
    [group] = json.loads(targets.read_text())
    pages = []
    for target in group["targets"]:
        with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as answer:
            pages.append(answer.read().decode())
    return pages


def streams(targets: Path, stage: str) -> list[float]:
    """Return the number of streams that each worker has "started" or "handled"."""
    return [
        sum(
            float(line.rsplit(" ", 1)[1])
            for line in page.splitlines()
            if line.startswith(f"grpc_server_{stage}_total{{") and "UploadStream" in line
        )
        for page in scraped(targets)
    ]


def channel_to(address: str) -> grpc.Channel:
    # A separate connection: the kernel chooses its worker.
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


def initiate(address: str, path: str) -> str:
    with channel_to(address) as channel:
        stub = IntakeServiceStub(channel)
        request = pb.InitiateUploadRequest(drive="d", path=path)
        return stub.InitiateUpload(request, wait_for_ready=True, timeout=60).upload_id


def test_any_worker_continues_an_upload_with_own_metrics(
    intake: ServiceProcess, targets: Path
) -> None:
    assert len(workers_of(intake)) == WORKERS
    upload_id = initiate(intake.address, "p")
    for number in range(16):
        with channel_to(intake.address) as channel:
            frames = iter(frames_of(upload_id, number, bytes(MIB)))
            [answer] = IntakeServiceStub(channel).UploadStream(frames, timeout=60)
            assert answer.accepted.number == number
    calls = streams(targets, "handled")
    assert len(calls) == WORKERS
    assert sum(calls) == 16
    assert all(calls), "the kernel gave all sixteen connections to one worker"


def test_killed_worker_is_restarted_and_listed_in_targets(
    intake: ServiceProcess, targets: Path
) -> None:
    before = targets.read_text()
    victim, other = workers_of(intake)
    victim.send_signal(signal.SIGKILL)
    eventually(lambda: targets.read_text() != before)
    now = workers_of(intake)
    assert len(now) == WORKERS
    assert other in now
    assert victim not in now
    assert len(scraped(targets)) == WORKERS
    assert initiate(intake.address, "after")


@pytest.mark.parametrize("signalled", ["the parent", "every process"])
def test_stop_drains_the_calls_of_every_worker(
    intake: ServiceProcess, targets: Path, signalled: str
) -> None:
    workers = workers_of(intake)
    # A supervisor that stops the process group signals the workers before their parent does.
    first = [worker.pid for worker in workers] if signalled == "every process" else []
    upload_id = initiate(intake.address, "p")
    chunk = list(frames_of(upload_id, 0, bytes(4 * MIB)))

    def while_it_stops() -> Iterator[pb.UploadStreamRequest]:
        yield from chunk[:2]
        eventually(lambda: sum(streams(targets, "started")) == 1)
        for pid in (*first, intake.pid):
            os.kill(pid, signal.SIGTERM)
        time.sleep(1.0)
        yield from chunk[2:]

    with channel_to(intake.address) as channel:
        [answer] = IntakeServiceStub(channel).UploadStream(while_it_stops(), timeout=60)
    assert answer.accepted.size == 4 * MIB
    assert intake.wait(60) == 0
    assert not [worker for worker in workers if worker.is_running()]


def test_workers_do_not_outlive_a_killed_parent(intake: ServiceProcess) -> None:
    workers = workers_of(intake)
    intake.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def refused(settings: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sluice_intake", *arguments],
        env=process_environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 78, done.stderr
    return done.stderr


def test_memory_backend_with_workers_is_refused(settings: dict[str, str]) -> None:
    single = {**settings, "SLUICE_COORDINATION": "memory", "SLUICE_CHUNK_TRANSPORT": "local"}
    assert "SLUICE_COORDINATION=redis" in refused(single, "--workers", "2")


def test_shared_port_is_refused(settings: dict[str, str]) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        error = refused({**settings, "SLUICE_INTAKE_ADDRESS": address}, "--workers", "2")
    assert address in error


def server_beside_a_free_port() -> socket.socket:
    """Return a bound socket whose next lower port is free and not taken by outgoing connections."""
    while True:
        try:
            return socket.create_server(("127.0.0.1", free_port() + 1))
        except OSError:
            continue


def test_worker_with_invalid_settings_stops_the_service(settings: dict[str, str]) -> None:
    # The second worker uses the next port for metrics, which is taken.
    with server_beside_a_free_port() as busy:
        port = busy.getsockname()[1]
        error = refused(
            {
                **settings,
                "SLUICE_INTAKE_ADDRESS": "127.0.0.1:0",
                "SLUICE_METRICS_ADDRESS": f"127.0.0.1:{port - 1}",
            },
            *("--workers", "2"),
        )
    assert f"127.0.0.1:{port}" in error
