"""A backend that cannot be used ends the start: exit 78, and a last line that names the setting."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from support import mysql_server
from support.deployments import Services, deployment
from support.environment import process_environment
from support.redis_server import RedisServer, free_port

START_SECONDS = 120.0


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with deployment(Services.name, tmp_path_factory.mktemp("services")) as backends:
        assert isinstance(backends, Services)
        yield backends


def refusal(services: Services, changes: Mapping[str, str], module: str) -> str:
    """What a service says when it does not start."""
    free = dict.fromkeys(
        ("SLUICE_INTAKE_ADDRESS", "SLUICE_REPOSITORY_ADDRESS", "SLUICE_METRICS_ADDRESS"),
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
def test_a_redis_that_is_not_there(services: Services, module: str) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    assert "SLUICE_REDIS__URL" in refusal(services, {"SLUICE_REDIS__URL": url}, module)


def test_a_wrong_password_of_redis_is_told_without_the_password(services: Services) -> None:
    with RedisServer("--requirepass", "right") as server:
        url = f"redis://:hunter2@127.0.0.1:{server.port}/0"
        line = refusal(services, {"SLUICE_REDIS__URL": url}, "sluice_intake")
    assert "SLUICE_REDIS__URL" in line
    assert "hunter2" not in line


def test_a_redis_that_evicts(services: Services) -> None:
    with RedisServer("--maxmemory-policy", "allkeys-lru") as server:
        line = refusal(services, {"SLUICE_REDIS__URL": server.url}, "sluice_intake")
    assert "noeviction" in line


def test_a_redis_that_cannot_keep_the_durability_class(services: Services) -> None:
    line = refusal(services, {"SLUICE_DURABILITY": "fsync"}, "sluice_intake")
    assert "appendonly" in line


def test_a_bucket_that_is_missing(services: Services) -> None:
    line = refusal(services, {"SLUICE_BUCKET": "nobody-made-it"}, "sluice_repository")
    assert "SLUICE_BUCKET" in line


def test_keys_of_s3_that_are_wrong(services: Services) -> None:
    line = refusal(services, {"SLUICE_S3__SECRET_KEY": "hunter2"}, "sluice_repository")
    assert "SLUICE_BUCKET" in line
    assert "hunter2" not in line


def test_a_wrong_password_of_mysql_is_told_without_the_password(services: Services) -> None:
    url = mysql_server.shared_server().url("sluice_1", password="hunter2")
    line = refusal(services, {"SLUICE_MYSQL__URL": url}, "sluice_repository")
    assert "SLUICE_MYSQL__URL" in line
    assert "hunter2" not in line


def test_an_old_schema_where_migrating_is_switched_off(services: Services) -> None:
    settings = {
        "SLUICE_MYSQL__URL": mysql_server.shared_server().create_database(),
        "SLUICE_MIGRATE_ON_START": "false",
    }
    assert "migrate" in refusal(services, settings, "sluice_repository")


def test_a_broker_address_that_is_none(services: Services) -> None:
    settings = {"SLUICE_KAFKA__BOOTSTRAP_SERVERS": "somewhere"}
    assert "Kafka" in refusal(services, settings, "sluice_repository")
