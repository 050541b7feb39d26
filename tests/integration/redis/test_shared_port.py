"""Several intakes on one port, spread by the kernel (SO_REUSEPORT)."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub
from sluice_core.uploads.model import MIB
from support.environment import process_environment
from support.intake import frames_of
from support.processes import ServiceProcess
from support.redis_server import RedisServer

SETTINGS = {
    "SLUICE_COORDINATION": "redis",
    "SLUICE_CHUNK_TRANSPORT": "redis",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
    "SLUICE_GRPC__REUSE_PORT": "true",
}
INTAKES = 2
CONNECTIONS = 24


@pytest.fixture
def intakes(tmp_path: Path) -> Iterator[list[ServiceProcess]]:
    """Intakes that listen on the address of the first one."""
    with RedisServer() as redis, ExitStack() as stack:
        settings = {**SETTINGS, "SLUICE_REDIS__URL": redis.url}
        started: list[ServiceProcess] = []
        for _ in range(INTAKES):
            intake = ServiceProcess("sluice_intake", tmp_path, settings)
            if started:
                intake.listen_like(started[0])
            started.append(stack.enter_context(intake))
        yield started


def streams_handled(intake: ServiceProcess) -> float:
    with urllib.request.urlopen(f"http://{intake.metrics_address}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in page.splitlines()
        if line.startswith("grpc_server_handled_total{") and "UploadStream" in line
    )


def send_chunk(address: str, upload_id: str, number: int) -> int:
    """Send one chunk over a connection of its own; return the accepted number."""
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        frames = iter(frames_of(upload_id, number, bytes(MIB)))
        [answer] = IntakeServiceStub(channel).UploadStream(frames, timeout=60)
        accepted: int = answer.accepted.number
        return accepted


def initiate(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        request = pb.InitiateUploadRequest(drive="d", path="p")
        stub = IntakeServiceStub(channel)
        upload_id: str = stub.InitiateUpload(request, wait_for_ready=True, timeout=60).upload_id
        return upload_id


@pytest.mark.long
def test_intakes_on_one_port_share_uploads(intakes: list[ServiceProcess]) -> None:
    """Any of them continues the upload, and the others take over from one that stopped."""
    first, second = intakes
    upload_id = initiate(first.address)
    for number in range(CONNECTIONS):
        assert send_chunk(first.address, upload_id, number) == number
    handled = [streams_handled(intake) for intake in intakes]
    assert sum(handled) == CONNECTIONS
    assert all(handled), "the kernel gave every connection to one intake"
    assert first.stop() == 0
    for number in range(CONNECTIONS, CONNECTIONS + 4):
        assert send_chunk(second.address, upload_id, number) == number


@pytest.mark.long
def test_shared_port_needs_a_shared_ledger() -> None:
    settings = {
        **SETTINGS,
        "SLUICE_COORDINATION": "memory",
        "SLUICE_CHUNK_TRANSPORT": "local",
    }
    done = subprocess.run(
        [sys.executable, "-m", "sluice_intake"],
        env=process_environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 78, done.stderr
    assert "SLUICE_COORDINATION=redis" in done.stderr
