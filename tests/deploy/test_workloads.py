"""The workloads as the manifests start them: each role alone, its probes, an upload, the end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.cli import Sluice
from support.deployments import Services
from support.environment import process_environment
from support.processes import ServiceProcess
from support.redis_server import RedisServer
from tools.deploy_checks.manifests import Workload, environment_of, our_workloads
from tools.deploy_checks.rendering import read_rendered

pytestmark = pytest.mark.long

MANIFESTS = read_rendered("dev")
WORKLOADS = {workload.name: workload for workload in our_workloads(MANIFESTS)}
ORDER = (
    "repository-api",
    "repository-parts",
    "repository-worker",
    "intake",
    "processor",
    "gateway",
)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with RedisServer() as redis:
        yield Services(tmp_path, redis)


def settings_of(workload: Workload, services: Services) -> dict[str, str]:
    """Return what the manifests set, except for where the backends of this test are."""
    given = environment_of(workload, MANIFESTS)
    mounted = {name for name, value in given.items() if value.startswith("/etc/sluice/secrets")}
    return {**{name: given[name] for name in given.keys() - mounted}, **services.settings}


def answers(probe: Mapping[str, Any], process: ServiceProcess) -> bool:
    """Ask what the kubelet asks."""
    if "grpc" in probe:
        with grpc.insecure_channel(process.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=probe["timeoutSeconds"])
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    url = f"http://{process.metrics_address}{probe['httpGet']['path']}"
    with urllib.request.urlopen(url, timeout=probe["timeoutSeconds"]) as answer:
        return bool(answer.status == 200)


@pytest.mark.timeout(600)
def test_workloads_store_an_upload_and_end_in_time(services: Services, tmp_path: Path) -> None:
    job = WORKLOADS["migrate"]
    migrated = subprocess.run(
        [sys.executable, "-m", "sluice_repository", *job.main["args"]],
        env=process_environment(settings_of(job, services)),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert migrated.returncode == 0, migrated.stderr
    source = tmp_path / "source"
    source.write_bytes(os.urandom(20 * 2**20))
    running: dict[str, ServiceProcess] = {}
    with ExitStack() as stack:
        for name in ORDER:
            workload = WORKLOADS[name]
            settings = settings_of(workload, services)
            for setting, target in (
                ("SLUICE_REPOSITORY_SERVER", "repository-api"),
                ("SLUICE_INTAKE_SERVER", "intake"),
            ):
                if target in running:
                    settings[setting] = f"dns:///{running[target].address}"
            if "SLUICE_GATEWAY__KEYS_FILE" in settings:
                settings["SLUICE_GATEWAY__KEYS_FILE"] = str(tmp_path / "keys" / "gateway.json")
            if "SLUICE_PROCESSOR__SPOOL_DIR" in settings:
                settings["SLUICE_PROCESSOR__SPOOL_DIR"] = str(tmp_path)
            process = ServiceProcess(
                f"sluice_{workload.service}", tmp_path, settings, *workload.main.get("args", [])
            )
            running[name] = stack.enter_context(process)
        for name, process in running.items():
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert answers(WORKLOADS[name].main[kind], process), f"{name}: {kind}"

        command = Sluice(running["intake"].address, tmp_path / "state")
        command.environment = {
            **command.environment,
            "SLUICE_REPOSITORY_SERVER": running["repository-api"].address,
        }
        command.ok("drive", "create", "files")
        command.ok("upload", str(source), "--drive", "files")
        assert services.count_objects() == 1

        for name, process in running.items():
            spec = WORKLOADS[name].pod
            sleep = WORKLOADS[name].main.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
            seconds = spec["terminationGracePeriodSeconds"] - sleep.get("seconds", 0)
            began = time.monotonic()
            assert process.stop() == 0, process.log_tail()
            assert time.monotonic() - began < seconds, name
