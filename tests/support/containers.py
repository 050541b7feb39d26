"""Containers of the backends' official images, on local ports."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from testcontainers.core.container import DockerContainer

from support.missing import missing
from tools.backends.errors import NotReadyError
from tools.backends.kafka import Kafka
from tools.backends.mysql import MySql
from tools.backends.ports import PortPicker
from tools.backends.redis import Redis
from tools.backends.s3 import S3
from tools.backends.service import Facts, Service
from tools.backends.state import StateDirectory
from tools.images.engine import REQUIRED

START_SECONDS: Final = 180.0
PASSWORD: Final = "containers-only"


@dataclass(frozen=True, slots=True)
class Image:
    """An image as deploy/compose.yaml runs it; `configure` gets the local port."""

    service: type[Service]
    name: str
    port: int
    configure: Callable[[DockerContainer, int], Facts]


def _redis(container: DockerContainer, port: int) -> Facts:
    container.with_command(
        "redis-server --appendonly yes --maxmemory 1gb --maxmemory-policy noeviction"
    )
    return {"url": f"redis://127.0.0.1:{port}/0"}


def _mysql(container: DockerContainer, port: int) -> Facts:
    container.with_env("MYSQL_ROOT_PASSWORD", PASSWORD)
    container.with_env("MYSQL_DATABASE", "sluice")
    return {"url": f"mysql+aiomysql://root:{PASSWORD}@127.0.0.1:{port}/sluice"}


def _kafka(container: DockerContainer, port: int) -> Facts:
    # The advertised address must be the one outside the container.
    for name, value in {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
    }.items():
        container.with_env(f"KAFKA_{name}", value)
    return {"bootstrap_servers": f"127.0.0.1:{port}", "kind": "apache"}


def _minio(container: DockerContainer, port: int) -> Facts:
    container.with_command("server /data")
    container.with_env("MINIO_ROOT_USER", "sluice")
    container.with_env("MINIO_ROOT_PASSWORD", PASSWORD)
    return {
        "endpoint_url": f"http://127.0.0.1:{port}",
        "region": "us-east-1",
        "access_key": "sluice",
        "secret_key": PASSWORD,
        "bucket": "sluice",
        "kind": "minio",
    }


IMAGES: Final = (
    Image(Redis, "redis:7.4", 6379, _redis),
    Image(MySql, "mysql:8.4", 3306, _mysql),
    Image(Kafka, "apache/kafka:4.1.1", 9092, _kafka),
    Image(S3, "minio/minio:RELEASE.2025-09-07T16-13-09Z", 9000, _minio),
)


def skip_without_docker() -> None:
    """End the test without a container daemon: this suite tests the images."""
    # In a separate process: the client leaks its socket without an answer.
    asked = subprocess.run(
        [sys.executable, "-c", "import docker; docker.from_env(timeout=5).ping()"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if asked.returncode != 0:
        *_, reason = asked.stderr.strip().splitlines() or ["no reason given"]
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"no container engine answers, and {REQUIRED}=1: {reason}")
        missing(f"no Docker daemon answers: {reason}; `make check-images` brings podman's")


@contextmanager
def running_containers(folder: Path) -> Iterator[StateDirectory]:
    """Run all images until they answer, and write their `services.json` to the folder."""
    ports = PortPicker()
    facts: dict[str, Facts] = {}
    with ExitStack() as stack:
        for image in IMAGES:
            name = image.service.name
            port = ports.pick(name, before={})[name]
            container = DockerContainer(image.name).with_bind_ports(image.port, port)
            facts[name] = image.configure(container, port)
            stack.enter_context(container)
        state = StateDirectory(folder)
        for image in IMAGES:
            name = image.service.name
            service = image.service(state.create_home(name))
            facts[name] = _wait_until_ready(service, facts[name])
        state.publish(facts)
        yield state


def _wait_until_ready(service: Service, facts: Facts) -> Facts:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return service.confirm(facts)
        except NotReadyError as error:
            if time.monotonic() > deadline:
                pytest.fail(f"{service.name} does not answer after {START_SECONDS:.0f} s: {error}")
        time.sleep(0.5)
