"""Resources: requests, limits, and that they are enough for what the settings allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tools.deploy_checks.loading import load
from tools.deploy_checks.manifests import (
    Manifest,
    Workload,
    bytes_of,
    cores_of,
    of_kind,
    our_workloads,
    shown,
    workloads,
)
from tools.deploy_checks.policies.scaling import max_replicas

MIB: Final = 2**20
STREAMS: Final = "sluice/sending-streams"
"""Annotation of an intake's pods: the sending streams that its limit of memory is for."""
INTAKE_MIB: Final = 130
STREAM_MIB: Final = 3
"""ADR 0016: 130 MiB, and for each sending stream its window and this."""
MALLOC_MIB: Final = 256
"""What malloc keeps of freed memory at most (docs/operations.md)."""
PROCESS_MIB: Final = 150


def resources(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield containers without requests or a limit of memory."""
    for workload in workloads(manifests):
        for container in workload.containers:
            given = container.get("resources", {})
            requests, limits = given.get("requests", {}), given.get("limits", {})
            where = f"{workload.shown}: container {container['name']}"
            for key in ("cpu", "memory"):
                if key not in requests:
                    yield f"{where}: requests no {key}"
            if "memory" not in limits:
                yield f"{where}: has no limit of memory"
            if "cpu" in limits:
                yield f"{where}: a limit of processor time delays acknowledgements; remove it"
            for key in sorted(requests.keys() & limits.keys()):
                measure = cores_of if key == "cpu" else bytes_of
                if measure(requests[key]) > measure(limits[key]):
                    yield f"{where}: requests more {key} than its limit"


def memory(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield limits below what the settings let a service use."""
    for workload in our_workloads(manifests):
        limits = workload.main.get("resources", {}).get("limits", {})
        if not workload.is_served or "memory" not in limits:
            continue
        needed = _needed_mib(workload, manifests)
        if isinstance(needed, str):
            yield f"{workload.shown}: {needed}"
        elif bytes_of(limits["memory"]) < needed * MIB:
            yield f"{workload.shown}: needs {needed} MiB, and its limit is {limits['memory']}"
        if workload.service == "processor":
            yield from _spool_problems(workload, manifests)


def _needed_mib(workload: Workload, manifests: Sequence[Manifest]) -> int | str:
    settings = load(workload, manifests)
    match workload.service:
        case "intake":
            annotations = workload.spec["template"]["metadata"].get("annotations", {})
            if STREAMS not in annotations:
                return f"lacks the annotation {STREAMS}"
            window = settings.grpc.stream_window_bytes // MIB
            streams = int(annotations[STREAMS]) * (window + STREAM_MIB)
            return INTAKE_MIB + streams + settings.limits.unary_bytes // MIB + MALLOC_MIB
        case "processor":
            children = settings.processor.workers * settings.processor.child_memory_bytes
            # Objects of up to 64 MiB are decoded from memory.
            return PROCESS_MIB + children // MIB + settings.processor.concurrency * 64
        case "repository":
            return PROCESS_MIB + 4 * settings.workers.parts + 2 * settings.reads.max_readers
        case _:
            return PROCESS_MIB


def _spool_problems(workload: Workload, manifests: Sequence[Manifest]) -> Iterator[str]:
    processor = load(workload, manifests).processor
    needed = processor.concurrency * processor.max_source_bytes
    limit = workload.main["resources"]["limits"].get("ephemeral-storage")
    for volume in workload.pod.get("volumes", []):
        size = (volume.get("emptyDir") or {}).get("sizeLimit")
        if size is None:
            continue
        if bytes_of(size) < needed:
            yield f"{workload.shown}: volume {volume['name']} holds less than its objects take"
        if limit is not None and bytes_of(limit) <= bytes_of(size):
            yield f"{workload.shown}: its limit of ephemeral-storage leaves nothing for logs"


_QUOTA: Final[Mapping[str, tuple[str, str]]] = {
    "requests.cpu": ("requests", "cpu"),
    "requests.memory": ("requests", "memory"),
    "limits.memory": ("limits", "memory"),
}
SURGE: Final = 1.25
"""Pods of a rollout at once, as a multiple of the replicas."""


def quota(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield quotas that stop the autoscalers, or a rollout, before their maximum."""
    counts = [(each, max_replicas(each, manifests) * SURGE) for each in workloads(manifests)]
    for manifest in of_kind(manifests, "ResourceQuota"):
        hard = manifest["spec"]["hard"]
        pods = sum(count for _, count in counts)
        if "pods" in hard and int(hard["pods"]) < pods:
            yield f"{shown(manifest)}: {pods:.0f} pods are wanted, and it allows {hard['pods']}"
        for key, (group, resource) in _QUOTA.items():
            measure = cores_of if resource == "cpu" else bytes_of
            wanted = sum(
                measure(each.main["resources"].get(group, {}).get(resource, "0")) * count
                for each, count in counts
            )
            if key in hard and measure(hard[key]) < wanted:
                unit = 1 if resource == "cpu" else 2**30
                yield f"{shown(manifest)}: {key}: {wanted / unit:.0f} are wanted, not {hard[key]}"
