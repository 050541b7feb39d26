"""Pods: the restricted profile, what they may write, their images, and where they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from tools.deploy_checks.images import user_of
from tools.deploy_checks.manifests import Manifest, Workload, our_workloads, selects, workloads
from tools.deploy_checks.rendering import ROOT

_VOLUMES: Final = frozenset(
    {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
)
_HOST: Final = ("hostNetwork", "hostPID", "hostIPC")
WRITABLE: Final[Mapping[str, frozenset[str]]] = {
    # Objects above 64 MiB while they are decoded.
    "processor": frozenset({"/spool"}),
    # The keys that sign tokens.
    "gateway": frozenset({"/keys"}),
}
"""All that the services write, found by running them on a read-only file system."""
_TOPOLOGIES: Final = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")


def restricted(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield breaches of the profile `restricted`; our pods also have a read-only root."""
    for workload in workloads(manifests):
        pod = workload.pod
        for key in _HOST:
            if pod.get(key):
                yield f"{workload.shown}: {key}"
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True:
            yield f"{workload.shown}: runAsNonRoot is not true"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{workload.shown}: its seccomp profile is not RuntimeDefault"
        if workload.is_ours and context.get("runAsUser") != user_of(workload.service):
            yield f"{workload.shown}: runAsUser is not the user of its image"
        for volume in pod.get("volumes", []):
            if kinds := volume.keys() - _VOLUMES - {"name"}:
                yield f"{workload.shown}: volume {volume['name']} is of kind {sorted(kinds)[0]}"
        for container in workload.containers:
            for problem in _container_problems(container, is_ours=workload.is_ours):
                yield f"{workload.shown}: container {container['name']}: {problem}"


def _container_problems(container: Mapping[str, Any], *, is_ours: bool) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("privileged"):
        yield "is privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    capabilities = context.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield "does not drop all capabilities"
    if context.get("runAsNonRoot") is False or context.get("runAsUser") == 0:
        yield "runs as root"
    if is_ours and context.get("readOnlyRootFilesystem") is not True:
        yield "its root is writable"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "takes a port of the host"


def writable_paths(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield writable mounts that a service does not write, and missing ones that it does."""
    for workload in our_workloads(manifests):
        mounts = workload.main.get("volumeMounts", [])
        found = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
        wanted = WRITABLE.get(workload.service, frozenset())
        for path in sorted(found - wanted):
            yield f"{workload.shown}: {path} is writable, and the service writes nothing there"
        for path in sorted(wanted - found):
            yield f"{workload.shown}: {path} is not writable"
        volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", [])}
        for mount in mounts:
            volume = volumes.get(mount["name"])
            if volume is None:
                yield f"{workload.shown}: mounts {mount['name']}, which is no volume of its pod"
            elif "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
                yield f"{workload.shown}: volume {mount['name']} has no sizeLimit"


def images(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield images without a version, and backends of other versions than the compose file's."""
    composed = _compose_images()
    for workload in workloads(manifests):
        for container in workload.containers:
            image = str(container["image"])
            name, _, tag = image.rpartition("/")[2].partition(":")
            if "@sha256:" not in image and tag in ("", "latest"):
                yield f"{workload.shown}: image {image} names no version"
            elif workload.is_ours and not name.startswith("sluice-"):
                yield f"{workload.shown}: image {image} is not one of deploy/docker"
            elif not workload.is_ours and image not in composed:
                yield f"{workload.shown}: image {image} is not that of deploy/compose.yaml"


def _compose_images() -> frozenset[str]:
    text = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    services = yaml.safe_load(text)["services"].values()
    return frozenset(service["image"] for service in services if "image" in service)


def spread(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield services whose pods may all run in one zone or on one node."""
    for workload in our_workloads(manifests):
        if not workload.is_served:
            continue
        rules = workload.pod.get("topologySpreadConstraints", [])
        for topology in _TOPOLOGIES:
            if not any(_spreads(rule, topology, workload) for rule in rules):
                yield f"{workload.shown}: does not spread its own pods over {topology}"


def _spreads(rule: Mapping[str, Any], topology: str, workload: Workload) -> bool:
    return (
        rule["topologyKey"] == topology
        and rule["maxSkew"] == 1
        and rule["labelSelector"] == workload.spec["selector"]
        and selects(rule["labelSelector"], workload.labels)
    )
