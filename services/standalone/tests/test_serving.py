"""The standalone as a process: start, stop, kill and refused configurations."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sluice.upload.v1 import upload_pb2
from sluice_standalone.__main__ import serve
from support.server import StandaloneServer, standalone
from support.wire import CHANNEL_OPTIONS, Chunk, WireClient, cut

FREE_PORTS = {
    f"SLUICE_{name}_ADDRESS": "127.0.0.1:0"
    for name in ("INTAKE", "REPOSITORY", "METRICS", "GATEWAY", "OBJECTS")
}
PHASE_1 = {
    "SLUICE_COORDINATION": "memory",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
}
CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandaloneServer]:
    with standalone(tmp_path / "data") as running:
        yield running


def start_refused(data_dir: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Return the exit code and standard error of a server that must refuse to start."""
    done = subprocess.run(
        [sys.executable, "-m", "sluice_standalone", "serve", "--data-dir", data_dir, *arguments],
        env={**os.environ, **FREE_PORTS, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


def channel_to(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)


def fetch(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


async def upload(wire: WireClient, path: str) -> upload_pb2.InitiateUploadResponse:
    opened = await wire.initiate(path)
    await wire.send_stream(opened.upload_id, cut(CONTENT, [1_000_000] * 3))
    status = await wire.complete(opened.upload_id)
    assert status.state == upload_pb2.UPLOAD_STATE_COMPLETED
    return opened


async def test_both_addresses_answer_for_intake_and_repository(server: StandaloneServer) -> None:
    async with channel_to(server.address) as one, channel_to(server.repository_address) as other:
        node_id = (await upload(WireClient(other), "a/file")).node_id
        assert await WireClient(one).read_sha256(node_id) == (SHA256, len(CONTENT))
        for channel in (one, other):
            for service in ("", "sluice.upload.v1.IntakeService"):
                request = health_pb2.HealthCheckRequest(service=service)
                answer = await health_pb2_grpc.HealthStub(channel).Check(request)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_metrics_address_serves_the_counters(server: StandaloneServer) -> None:
    async with channel_to(server.address) as channel:
        await upload(WireClient(channel), "a/file")
    text = await asyncio.to_thread(fetch, f"http://{server.metrics_address}/metrics")
    assert 'sluice_chunks_total{verdict="NEW"} 3.0' in text
    assert 'grpc_method="UploadStream"' in text
    assert await asyncio.to_thread(fetch, f"http://{server.metrics_address}/readyz") == "ready\n"


def test_stop_removes_the_announcement(server: StandaloneServer) -> None:
    assert (server.data_dir / "server.json").exists()
    assert server.stop() == 0
    assert not (server.data_dir / "server.json").exists()
    assert "Traceback" not in server.log_tail(1000)


@pytest.mark.slow
async def test_stop_does_not_wait_for_an_open_watch(server: StandaloneServer) -> None:
    async with channel_to(server.address) as channel:
        wire = WireClient(channel)
        opened = await wire.initiate("a/file")
        request = upload_pb2.WatchUploadRequest(upload_id=opened.upload_id)
        watching: Any = wire.intake.WatchUpload(request)
        assert (await watching.read()).status.upload_id == opened.upload_id
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
        watching.cancel()


@pytest.mark.slow
async def test_accepted_and_completed_data_survive_kill_9(
    server: StandaloneServer,
) -> None:
    chunks = cut(CONTENT, [1_000_000] * 3)
    async with channel_to(server.address) as channel:
        wire = WireClient(channel)
        done = await upload(wire, "a/done")
        half = await wire.initiate("a/half")
        await wire.send_unary(half.upload_id, chunks[:2])
    server.kill()
    server.start()
    async with channel_to(server.address) as channel:
        wire = WireClient(channel)
        assert await wire.read_sha256(done.node_id) == (SHA256, len(CONTENT))
        status = await wire.status(half.upload_id)
        assert status.received_chunks == 2
        await wire.send_unary(half.upload_id, chunks[2:])
        status = await wire.complete(half.upload_id, total_chunks=3)
        assert status.state == upload_pb2.UPLOAD_STATE_COMPLETED
        assert await wire.read_sha256(half.node_id) == (SHA256, len(CONTENT))


async def test_phase_1_completes_uploads_and_keeps_nothing(tmp_path: Path) -> None:
    with standalone(tmp_path / "data", PHASE_1) as server:
        async with channel_to(server.address) as channel:
            wire = WireClient(channel)
            opened = await wire.initiate("a/file")
            await wire.send_unary(opened.upload_id, [Chunk(0, CONTENT, is_last=True)])
            status = await wire.complete(opened.upload_id)
            assert status.state == upload_pb2.UPLOAD_STATE_COMPLETED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await wire.read_sha256(opened.node_id)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert server.stop() == 0
        assert not (server.data_dir / "objects").exists()


def test_second_server_on_the_same_data_exits_78(server: StandaloneServer) -> None:
    code, err = start_refused(server.data_dir)
    assert code == 78
    assert err.count("\n") == 1
    assert "another server" in err


def test_address_in_use_exits_78(server: StandaloneServer, tmp_path: Path) -> None:
    code, err = start_refused(tmp_path / "other", SLUICE_INTAKE_ADDRESS=server.address)
    assert code == 78
    assert err.strip().splitlines()[-1].startswith("SLUICE_INTAKE_ADDRESS: cannot listen")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLUICE_BUDGET_BYTES", "hunter2"),
        pytest.param("SLUICE_COORDINATION", "hunter2", marks=pytest.mark.slow),
        pytest.param("SLUICE_COORDINATION", "redis", marks=pytest.mark.slow),
        pytest.param("SLUICE_CATALOGUE", "off", marks=pytest.mark.slow),
        pytest.param("SLUICE_DURABILITY", "replicated", marks=pytest.mark.slow),
        ("SLUICE_INTAKE_ADDRESS", "0.0.0.0:0"),
        pytest.param("SLUICE_METRICS_ADDRESS", "0.0.0.0:0", marks=pytest.mark.slow),
    ],
)
def test_bad_setting_exits_78_with_one_line(tmp_path: Path, name: str, value: str) -> None:
    code, err = start_refused(tmp_path / "data", **{name: value})
    assert code == 78
    assert err.count("\n") == 1
    assert "SLUICE_" in err
    assert "hunter2" not in err


def test_show_settings_prints_and_starts_nothing(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    done = subprocess.run(
        [sys.executable, "-m", "sluice_standalone", "--data-dir", data_dir, "--show-settings"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert f"SLUICE_DATA_DIR={data_dir}" in done.stdout.splitlines()
    assert not data_dir.exists()


def test_sluice_command_finds_serve() -> None:
    (found,) = entry_points(group="sluice.commands", name="serve")
    assert found.load() is serve
