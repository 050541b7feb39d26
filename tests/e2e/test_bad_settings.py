"""Unusable backends: the service exits with 78 and its last line names the setting."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from support import mysql_server
from support.deployments import Services, deployment
from support.environment import process_environment
from support.redis_server import RedisServer, free_port

pytestmark = pytest.mark.slow

START_SECONDS = 120.0


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with deployment(Services.name, tmp_path_factory.mktemp("services")) as backends:
        assert isinstance(backends, Services)
        yield backends


def refusal(services: Services, changes: Mapping[str, str], module: str) -> str:
    """Return the last line of standard error of a service that refuses to start."""
    free = dict.fromkeys(
        (
            f"SLUICE_{name}_ADDRESS"
            for name in ("INTAKE", "REPOSITORY", "METRICS", "GATEWAY", "OBJECTS")
        ),
        "127.0.0.1:0",
    )
    ended = subprocess.run(
        [sys.executable, "-m", module],
        env=process_environment({**services.settings, **free, **changes}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert ended.returncode == 78, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("module", ["sluice_intake", "sluice_repository"])
def test_unreachable_redis_exits_78(services: Services, module: str) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    assert "SLUICE_REDIS__URL" in refusal(services, {"SLUICE_REDIS__URL": url}, module)


def test_wrong_redis_password_is_refused_without_showing_it(services: Services) -> None:
    with RedisServer("--requirepass", "right") as server:
        url = f"redis://:hunter2@127.0.0.1:{server.port}/0"
        line = refusal(services, {"SLUICE_REDIS__URL": url}, "sluice_intake")
    assert "SLUICE_REDIS__URL" in line
    assert "hunter2" not in line


def test_evicting_redis_exits_78(services: Services) -> None:
    with RedisServer("--maxmemory-policy", "allkeys-lru") as server:
        line = refusal(services, {"SLUICE_REDIS__URL": server.url}, "sluice_intake")
    assert "noeviction" in line


def test_redis_below_the_durability_class_exits_78(services: Services) -> None:
    line = refusal(services, {"SLUICE_DURABILITY": "fsync"}, "sluice_intake")
    assert "appendonly" in line


def test_missing_bucket_exits_78(services: Services) -> None:
    line = refusal(services, {"SLUICE_BUCKET": "nobody-made-it"}, "sluice_repository")
    assert "SLUICE_BUCKET" in line


def test_wrong_s3_secret_is_refused_without_showing_it(services: Services) -> None:
    line = refusal(services, {"SLUICE_S3__SECRET_KEY": "hunter2"}, "sluice_repository")
    assert "SLUICE_BUCKET" in line
    assert "hunter2" not in line


def test_wrong_mysql_password_is_refused_without_showing_it(services: Services) -> None:
    url = mysql_server.shared_server().url("sluice_1", password="hunter2")
    line = refusal(services, {"SLUICE_MYSQL__URL": url}, "sluice_repository")
    assert "SLUICE_MYSQL__URL" in line
    assert "hunter2" not in line


def test_old_schema_without_migration_exits_78(services: Services) -> None:
    settings = {
        "SLUICE_MYSQL__URL": mysql_server.shared_server().create_database(),
        "SLUICE_MIGRATE_ON_START": "false",
    }
    assert "migrate" in refusal(services, settings, "sluice_repository")


def test_invalid_broker_address_exits_78(services: Services) -> None:
    settings = {"SLUICE_KAFKA__BOOTSTRAP_SERVERS": "somewhere"}
    assert "Kafka" in refusal(services, settings, "sluice_repository")
