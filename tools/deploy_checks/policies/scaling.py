"""Replicas: who decides their number, and how many may be away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tools.deploy_checks.loading import load
from tools.deploy_checks.manifests import (
    Manifest,
    Workload,
    by_name,
    of_kind,
    our_workloads,
    selected,
    shown,
)


def scalers_of(workload: Workload, manifests: Sequence[Manifest]) -> list[Manifest]:
    """Return the autoscalers of a workload, KEDA's included."""
    return [
        scaler
        for scaler in of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject")
        if scaler["spec"]["scaleTargetRef"]["name"] == workload.name
        and scaler["spec"]["scaleTargetRef"].get("kind", "Deployment") == workload.kind
    ]


def _bounds(scaler: Manifest) -> tuple[int, int]:
    spec = scaler["spec"]
    if scaler["kind"] == "ScaledObject":
        return spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    return spec.get("minReplicas", 1), spec["maxReplicas"]


def min_replicas(workload: Workload, manifests: Sequence[Manifest]) -> int:
    """Return how many pods a workload has at least."""
    scalers = scalers_of(workload, manifests)
    return _bounds(scalers[0])[0] if scalers else workload.spec.get("replicas", 1)


def max_replicas(workload: Workload, manifests: Sequence[Manifest]) -> int:
    """Return how many pods a workload has at most, without those of a rollout."""
    scalers = scalers_of(workload, manifests)
    return _bounds(scalers[0])[1] if scalers else workload.spec.get("replicas", 1)


def replicas(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield workloads whose number of pods nobody decides, or two do."""
    deployments = by_name(manifests, "Deployment")
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        if target not in deployments:
            yield f"{shown(scaler)}: there is no Deployment {target}"
        least, most = _bounds(scaler)
        if least > most:
            yield f"{shown(scaler)}: its minimum is above its maximum"
    for workload in our_workloads(manifests):
        if not workload.is_served:
            continue
        scalers = scalers_of(workload, manifests)
        if len(scalers) > 1:
            yield f"{workload.shown}: has {len(scalers)} autoscalers"
        if scalers and "replicas" in workload.spec:
            yield f"{workload.shown}: every apply would undo its autoscaler; leave out replicas"
        if not scalers and "replicas" not in workload.spec:
            yield f"{workload.shown}: has neither replicas nor an autoscaler"
        if workload.service == "processor":
            partitions = load(workload, manifests).kafka.partitions
            if max_replicas(workload, manifests) > partitions:
                yield f"{workload.shown}: more pods than the {partitions} partitions would be idle"


def disruption(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield services that a drain of nodes may end whole, and budgets that stop every drain."""
    covered: set[str] = set()
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        found = selected(manifests, budget["spec"]["selector"])
        if len(found) != 1:
            yield f"{shown(budget)}: selects {len(found)} workloads"
            continue
        covered.add(found[0].name)
        spec, least = budget["spec"], min_replicas(found[0], manifests)
        if "minAvailable" in spec and spec["minAvailable"] >= max(least, 1):
            yield f"{shown(budget)}: forbids every eviction"
        if spec.get("maxUnavailable", 1) == 0:
            yield f"{shown(budget)}: forbids every eviction"
    for workload in our_workloads(manifests):
        several = max_replicas(workload, manifests) > 1
        if workload.is_served and several and workload.name not in covered:
            yield f"{workload.shown}: has no disruption budget"
