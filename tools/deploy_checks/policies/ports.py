"""Ports, services and labels: what is listened on, and how it is found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sluice_core.addresses import Address
from tools.deploy_checks.loading import full_environment
from tools.deploy_checks.manifests import (
    METRICS,
    NAME,
    OURS,
    PART_OF,
    ROUTES,
    Manifest,
    Workload,
    by_name,
    of_kind,
    our_workloads,
    selected,
    shown,
)

LISTENERS: Final[Mapping[str, Mapping[str, str]]] = {
    "intake": {"grpc": "SLUICE_INTAKE_ADDRESS", METRICS: "SLUICE_METRICS_ADDRESS"},
    "repository": {"grpc": "SLUICE_REPOSITORY_ADDRESS", METRICS: "SLUICE_METRICS_ADDRESS"},
    "processor": {METRICS: "SLUICE_METRICS_ADDRESS"},
    "gateway": {"http": "SLUICE_GATEWAY_ADDRESS", METRICS: "SLUICE_METRICS_ADDRESS"},
}
"""Port names of each service, and the settings of their addresses."""
STAGE: Final = "sluice/stage"
"""Label of what is applied before the services (docs/deployment.md)."""
_TARGETS: Final = ("SLUICE_REPOSITORY_SERVER", "SLUICE_INTAKE_SERVER")
_TARGET: Final = re.compile(r"dns:///(?P<name>[a-z-]+):(?P<port>\d+)")


def ports(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield ports on which a service does not listen, and listeners without a port."""
    for workload in our_workloads(manifests):
        if not workload.is_served:
            continue
        environment = full_environment(workload, manifests)
        listeners: dict[str, int] = {}
        for name, setting in LISTENERS[workload.service].items():
            address = Address.parse(environment[setting])
            if address.is_loopback:
                yield f"{workload.shown}: {setting} is on loopback"
            listeners[name] = address.port
        if dict(workload.ports) != listeners:
            yield f"{workload.shown}: has the ports {dict(workload.ports)}, not {listeners}"


def services(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield services that lead nowhere, and addresses in settings that name no service."""
    known = by_name(manifests, "Service")
    for service in known.values():
        selector = service["spec"].get("selector")
        if not selector:
            continue
        found = selected(manifests, {"matchLabels": selector})
        if len(found) != 1:
            names = ", ".join(each.shown for each in found) or "nothing"
            yield f"{shown(service)}: selects {names}"
            continue
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in found[0].ports:
                yield f"{shown(service)}: {found[0].shown} has no port {port['targetPort']}"
            elif port["port"] != found[0].ports[port["targetPort"]]:
                yield f"{shown(service)}: port {port['port']} is not that of the pods"
    for workload in our_workloads(manifests):
        environment = full_environment(workload, manifests)
        for setting in _TARGETS:
            if setting in environment:
                for problem in _target_problems(environment[setting], known):
                    yield f"{workload.shown}: {setting}: {problem}"
    yield from _backend_problems(manifests, known)


def _target_problems(target: str, known: Mapping[str, Manifest]) -> Iterator[str]:
    found = _TARGET.fullmatch(target)
    if found is None:
        yield f"{target} is not dns:///SERVICE:PORT, which balances calls over pods"
        return
    service = known.get(found["name"])
    if service is None:
        yield f"there is no service {found['name']}"
        return
    if service["spec"].get("clusterIP") != "None":
        yield f"service {found['name']} is not headless: one pod would get all calls"
    if int(found["port"]) not in {port["port"] for port in service["spec"]["ports"]}:
        yield f"service {found['name']} has no port {found['port']}"


def _backend_problems(
    manifests: Sequence[Manifest], known: Mapping[str, Manifest]
) -> Iterator[str]:
    for ingress in of_kind(manifests, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                service = known.get(backend["name"])
                if service is None:
                    yield f"{shown(ingress)}: there is no service {backend['name']}"
                    continue
                wanted = backend["port"].get("name", backend["port"].get("number"))
                offered = service["spec"]["ports"]
                if not any(wanted in (port.get("name"), port["port"]) for port in offered):
                    yield f"{shown(ingress)}: {shown(service)} has no port {wanted}"
    for route in of_kind(manifests, *ROUTES):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                service = known.get(backend["name"])
                if service is None:
                    yield f"{shown(route)}: there is no service {backend['name']}"
                elif backend["port"] not in {port["port"] for port in service["spec"]["ports"]}:
                    yield f"{shown(route)}: {shown(service)} has no port {backend['port']}"


def labels(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield what dashboards, alerts and network policies do not find by its labels."""
    for workload in our_workloads(manifests):
        for place in (workload.manifest["metadata"].get("labels", {}), workload.labels):
            if place.get(PART_OF) != OURS or NAME not in place:
                yield f"{workload.shown}: lacks the labels {NAME} and {PART_OF}: {OURS}"
        if workload.is_served:
            yield from _scrape_problems(workload, manifests)
    jobs = [each.manifest for each in our_workloads(manifests) if not each.is_served]
    for manifest in [*of_kind(manifests, "NetworkPolicy", "ConfigMap"), *jobs]:
        if manifest["metadata"].get("labels", {}).get(STAGE) != "before":
            yield f"{shown(manifest)}: lacks the label {STAGE}: before; services need it first"


def _scrape_problems(workload: Workload, manifests: Sequence[Manifest]) -> Iterator[str]:
    found = [
        service
        for service in of_kind(manifests, "Service")
        if any(port.get("name") == METRICS for port in service["spec"]["ports"])
        and service["spec"].get("selector")
        and workload in selected(manifests, {"matchLabels": service["spec"]["selector"]})
    ]
    if len(found) != 1:
        yield f"{workload.shown}: {len(found)} services have its port `{METRICS}`"
    for service in found:
        given = service["metadata"].get("labels", {})
        of_workload = workload.manifest["metadata"].get("labels", {})
        if given.get(NAME) != of_workload.get(NAME) or given.get(PART_OF) != OURS:
            yield f"{shown(service)}: its labels are not those of its {workload.kind}"
