"""Pods as processes, which are started, replaced and ended as Kubernetes does it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from support.processes import ServiceProcess
from support.round_robin import RoundRobin
from tools.deploy_checks.manifests import Workload


@dataclass(frozen=True, slots=True)
class Ending:
    """How the pods of a workload end: the times of its manifest."""

    sleep_seconds: float
    """The preStop hook; 0 without one."""
    grace_seconds: float
    """From the begin of that hook to SIGKILL."""

    @classmethod
    def of(cls, workload: Workload) -> Ending:
        hook = workload.main.get("lifecycle", {}).get("preStop", {})
        sleep = float(hook.get("sleep", {}).get("seconds", 0))
        return cls(sleep, float(workload.pod["terminationGracePeriodSeconds"]))

    @property
    def endpoint_seconds(self) -> float:
        """How late proxies learn that a pod goes: the sleep is made for twice of this."""
        return self.sleep_seconds / 2


MakePod = Callable[[], ServiceProcess]


class PodSet:
    """The pods of one Deployment.

    Args:
        make: returns a pod that is not started yet.
        service: sends connections to the pods that are ready; None if nobody calls them.
    """

    def __init__(self, make: MakePod, ending: Ending, service: RoundRobin | None = None) -> None:
        self.make = make
        self.ending = ending
        self.pods: list[ServiceProcess] = []
        self.ended: list[tuple[ServiceProcess, float]] = []
        """Pods that have ended, and the seconds from SIGTERM to the exit of each."""
        self._service = service
        self._endpoints: list[str] = []
        self._made: list[ServiceProcess] = []

    async def scale_out(self, count: int = 1) -> None:
        """Start pods; connections go to them once they are ready."""
        new = [self.make() for _ in range(count)]
        self.pods += new
        self._made += new
        await asyncio.gather(*(asyncio.to_thread(pod.start) for pod in new))
        self._endpoints += [pod.address for pod in new]
        self._publish()

    async def roll(self, make: MakePod | None = None) -> None:
        """Replace every pod: maxSurge 1, maxUnavailable 0.

        The next pod starts while the last one ends: Kubernetes counts no pods that terminate.

        Args:
            make: of another release, from now on.
        """
        self.make = make or self.make
        async with asyncio.TaskGroup() as group:
            for pod in list(self.pods):
                await self.scale_out()
                self.pods.remove(pod)
                group.create_task(self._end(pod))

    async def scale_in(self, count: int = 1) -> None:
        """End pods, the oldest first."""
        leaving, self.pods = self.pods[:count], self.pods[count:]
        async with asyncio.TaskGroup() as group:
            for pod in leaving:
                group.create_task(self._end(pod))

    def take_over(self, other: PodSet) -> None:
        """Select these pods in place of the other set's: the Service has another selector.

        Connections that are open stay where they are.
        """
        self._service, other._service = other._service, None
        self._publish()

    async def _end(self, pod: ServiceProcess) -> None:
        """End a pod: endpoint and hook at once, then SIGTERM, within the grace period."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._leave(pod))
            await asyncio.sleep(self.ending.sleep_seconds)
        signalled = time.monotonic()
        code = await asyncio.to_thread(pod.stop)
        took = time.monotonic() - signalled
        assert code == 0, pod.log_tail()
        left = self.ending.grace_seconds - self.ending.sleep_seconds
        assert took < left, f"the kubelet would have killed it:\n{pod.log_tail()}"
        self.ended.append((pod, took))

    async def _leave(self, pod: ServiceProcess) -> None:
        await asyncio.sleep(self.ending.endpoint_seconds)
        self._endpoints.remove(pod.address)
        self._publish()

    def _publish(self) -> None:
        if self._service is not None:
            self._service.servers = list(self._endpoints)

    async def close(self) -> None:
        """End what still runs, at once."""
        for pod in self._made:
            await asyncio.to_thread(pod.close)
