"""TLS of real processes: one that serves by it, ones whose files refuse the start."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2
from support.certificates import DAY, REFUSED, Authority, TlsPaths, replace, write_tls
from support.processes import ServiceProcess
from support.server import StandaloneServer
from support.tls_terminator import terminating_tls
from support.wire import CHANNEL_OPTIONS, WireClient, cut

MIB = 1024 * 1024
AUTHORITY = Authority()
CONTENT = random.Random(7).randbytes(3 * MIB)
IN_MEMORY = {
    "SLUICE_COORDINATION": "memory",
    "SLUICE_CHUNK_TRANSPORT": "direct",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
}


@pytest.fixture
def paths(tmp_path: Path) -> TlsPaths:
    return write_tls(tmp_path / "tls", AUTHORITY, AUTHORITY.issue())


@pytest.fixture
def server(tmp_path: Path, paths: TlsPaths) -> Iterator[StandaloneServer]:
    environment = {
        "SLUICE_TLS__CERT_FILE": str(paths.cert),
        "SLUICE_TLS__KEY_FILE": str(paths.key),
    }
    running = StandaloneServer(tmp_path / "data", environment)
    running.start()
    try:
        yield running
    finally:
        running.close()


async def test_standalone_serves_by_tls(server: StandaloneServer) -> None:
    credentials = grpc.ssl_channel_credentials(AUTHORITY.pem)
    async with grpc.aio.secure_channel(server.address, credentials, CHANNEL_OPTIONS) as channel:
        wire = WireClient(channel)
        await wire.repository.CreateDrive(repository_pb2.CreateDriveRequest(name="wire"))
        opened = await wire.initiate("a", chunk_size=MIB)
        await wire.send_streams(opened.upload_id, cut(CONTENT, itertools.repeat(MIB)), 2)
        status = await wire.complete(opened.upload_id, 3)
    assert status.state == upload_pb2.UPLOAD_STATE_COMPLETED
    announced = json.loads((server.data_dir / "server.json").read_text(encoding="utf-8"))
    assert announced["intake"] == f"https://{server.address}"
    assert f"metrics     https://{server.metrics_address}/metrics" in server.log_tail()


@pytest.mark.parametrize("module", ["sluice_intake", "sluice_repository"])
@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("expired", "SLUICE_TLS__CERT_FILE: the certificate expired on "),
        ("mismatching", "SLUICE_TLS__KEY_FILE: the key does not belong to "),
        ("missing", "SLUICE_TLS__CLIENT_CA_FILE: the file cannot be read "),
    ],
)
def test_unusable_tls_files_exit_78(
    tmp_path: Path, paths: TlsPaths, module: str, kind: str, line: str
) -> None:
    settings = paths.environment()
    if kind == "expired":
        AUTHORITY.issue(ends=-DAY / 24).write(paths)
    elif kind == "mismatching":
        replace(paths.key, AUTHORITY.issue().key)
    else:
        paths.ca.unlink()
        settings |= {"SLUICE_TLS__CA_FILE": ""}
    service = ServiceProcess(module, tmp_path, {**IN_MEMORY, **settings})
    with pytest.raises(AssertionError, match="did not start"):
        service.start()
    assert service.wait(0) == 78
    assert service.log_tail(1).startswith(line), service.log_tail()


def test_public_address_without_keys_exits_78(tmp_path: Path, paths: TlsPaths) -> None:
    """TLS alone opens no address to everybody, and keys alone do not either."""
    settings = {**IN_MEMORY, **paths.environment(), "SLUICE_INTAKE_ADDRESS": "0.0.0.0:0"}
    service = ServiceProcess("sluice_intake", tmp_path, settings)
    with pytest.raises(AssertionError, match="did not start"):
        service.start()
    assert service.wait(0) == 78
    assert "has no keys (SLUICE_AUTH__MODE=jwt)" in service.log_tail(1)


def test_allow_insecure_warns_at_the_start(tmp_path: Path) -> None:
    settings = {
        **IN_MEMORY,
        "SLUICE_INTAKE_ADDRESS": "0.0.0.0:0",
        "SLUICE_ALLOW_INSECURE": "true",
    }
    with ServiceProcess("sluice_intake", tmp_path, settings) as service:
        assert "security.waived" in service.log_tail()


@pytest.mark.parametrize("kind", REFUSED)
def test_processor_refuses_an_untrusted_kafka(tmp_path: Path, kind: str) -> None:
    """Its consumers would try for ever, and their library would log the cause only."""
    refused = REFUSED[kind]
    paths = write_tls(tmp_path / "kafka", AUTHORITY, refused.issue(AUTHORITY))
    with terminating_tls(paths, plain_port=9) as port:
        settings = {
            "SLUICE_COORDINATION": "redis",
            "SLUICE_CHUNK_TRANSPORT": "redis",
            "SLUICE_OBJECTS": "s3",
            "SLUICE_EVENTS": "kafka",
            "SLUICE_CATALOGUE": "mysql",
            "SLUICE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
            "SLUICE_KAFKA__SECURITY_PROTOCOL": "SSL",
            "SLUICE_KAFKA__CA_FILE": str(paths.ca),
        }
        service = ServiceProcess("sluice_processor", tmp_path, settings)
        with pytest.raises(AssertionError, match="did not start"):
            service.start()
    assert service.wait(0) == 78
    line = f"Kafka: the certificate of 127.0.0.1:{port} {refused.problem}; "
    assert service.log_tail(1).startswith(line), service.log_tail()
