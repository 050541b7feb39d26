"""The workloads of the manifests as processes on backends of their own, of one release or two."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from sluice_backends.kafka.options import KafkaOptions
from sluice_core.ports.event_publisher import NODES_TOPIC, PHOTOS_TOPIC, UPLOADS_TOPIC
from support import kafka
from support.deployments import Services
from support.environment import process_environment
from support.former_release import CURRENT, Release
from support.kubelet import Ending, PodSet
from support.processes import ServiceProcess
from support.redis_server import RedisServer
from support.round_robin import RoundRobin, round_robin
from tools.deploy_checks.manifests import Manifest, Workload, environment_of, our_workloads
from tools.deploy_checks.rendering import read_rendered

CALLED: Final = ("repository-api", "intake", "gateway")
UNCALLED: Final = ("repository-parts", "repository-worker", "processor")
QUICK: Final = {
    # A sweep looks for what others forgot: sooner, so that the test need not wait for it.
    "SLUICE_SWEEPER__INTERVAL_SECONDS": "1",
    "SLUICE_GATEWAY__SWEEP_INTERVAL_SECONDS": "1",
    # Small pictures, and users that create many jobs.
    "SLUICE_PROCESSOR__THUMBNAIL_SIZES": "32,64",
    "SLUICE_PROCESSOR__WORKERS": "1",
    "SLUICE_GATEWAY__JOBS_PER_MINUTE": "0",
}
_MIGRATION_SECONDS: Final = 200


def settings_of(
    workload: Workload, manifests: list[Manifest], backends: Mapping[str, str]
) -> dict[str, str]:
    """Return what the manifests set, except for where the backends of the test are."""
    given = environment_of(workload, manifests)
    mounted = {name for name, value in given.items() if value.startswith("/etc/sluice/secrets")}
    return {**{name: given[name] for name in given.keys() - mounted}, **backends}


class Cluster:
    """Deployments behind the balancers of their Services.

    Kubernetes' proxies know endpoints and nothing else, so that a connection to a pod that has gone
    fails: no balancer here tries another one.
    """

    def __init__(
        self, folder: Path, backends: Services, services: Mapping[str, RoundRobin]
    ) -> None:
        self.backends = backends
        self.services = services
        self._folder = folder
        self._manifests = read_rendered("dev")
        self._workloads = {each.name: each for each in our_workloads(self._manifests)}
        self._groups = {
            f"SLUICE_{name.upper()}__GROUP": kafka.unique_name(name)
            for name in ("gateway", "processor")
        }
        self.sets: list[PodSet] = []

    def settings(self, name: str, release: Release = CURRENT) -> dict[str, str]:
        """Return the environment of a workload's pods."""
        found = {
            **settings_of(self._workloads[name], self._manifests, self.backends.settings),
            **QUICK,
            **self._groups,
            "SLUICE_REPOSITORY_SERVER": f"dns:///{self.services['repository-api'].address}",
            "SLUICE_INTAKE_SERVER": f"dns:///{self.services['intake'].address}",
            **release.settings,
        }
        if name == "gateway":
            found["SLUICE_GATEWAY__PUBLIC_URL"] = f"http://{self.services['gateway'].address}"
            found["SLUICE_GATEWAY__KEYS_FILE"] = str(self._folder / "gateway-keys.json")
        if name == "processor":
            found["SLUICE_PROCESSOR__SPOOL_DIR"] = str(self._folder)
        return found

    def migrate(self, release: Release = CURRENT) -> subprocess.CompletedProcess[str]:
        """Run the job `migrate` of a release to its end."""
        job = self._workloads["migrate"]
        return subprocess.run(
            [sys.executable, "-m", "sluice_repository", *job.main["args"]],
            env=process_environment({**self.settings("migrate"), **release.settings}),
            capture_output=True,
            text=True,
            timeout=_MIGRATION_SECONDS,
            check=False,
        )

    def pod(self, name: str, release: Release = CURRENT) -> ServiceProcess:
        """Return a pod of a workload that is not started yet."""
        workload = self._workloads[name]
        return ServiceProcess(
            f"sluice_{workload.service}",
            self._folder,
            self.settings(name, release),
            *workload.main.get("args", []),
        )

    async def deploy(
        self, name: str, count: int, release: Release = CURRENT, *, beside: bool = False
    ) -> PodSet:
        """Start the pods of a workload.

        Args:
            beside: another Deployment of the workload has its connections.
        """
        ending = Ending.of(self._workloads[name])
        service = None if beside else self.services.get(name)
        pods = PodSet(lambda: self.pod(name, release), ending, service)
        self.sets.append(pods)
        await pods.scale_out(count)
        return pods

    async def deploy_all(
        self, counts: Mapping[str, int], release: Release = CURRENT
    ) -> dict[str, PodSet]:
        """Start the pods of several workloads, one workload after the other.

        Together they would need more than the time of a start on a busy machine.
        """
        return {name: await self.deploy(name, count, release) for name, count in counts.items()}

    async def skip_other_events(self) -> None:
        """Begin after what other tests have published: their topics are the same."""
        options = KafkaOptions(self.backends.settings["SLUICE_KAFKA__BOOTSTRAP_SERVERS"])
        for topic in (UPLOADS_TOPIC, NODES_TOPIC, PHOTOS_TOPIC):
            ends = await kafka.ends_of(options, topic)
            for group in self._groups.values():
                await kafka.begin_at(options, group, ends)


@asynccontextmanager
async def open_cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Open backends and balancers; end all pods afterwards, and show their logs after a failure."""
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        backends = await asyncio.to_thread(Services, folder, redis)
        services = {
            name: await stack.enter_async_context(round_robin(passes_over=False)) for name in CALLED
        }
        cluster = Cluster(folder, backends, services)
        await cluster.skip_other_events()
        try:
            yield cluster
        except BaseException:
            for each in cluster.sets:
                for pod in each.pods:
                    sys.stderr.write(f"{pod.log.name}\n{pod.log_tail()}\n")
            raise
        finally:
            await asyncio.gather(*(each.close() for each in cluster.sets))
