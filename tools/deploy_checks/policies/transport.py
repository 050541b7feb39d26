"""Transport: certificates, and that scrapes and ingresses speak as the servers do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tools.deploy_checks.manifests import (
    METRICS,
    Manifest,
    Workload,
    behind,
    by_name,
    of_kind,
    our_workloads,
    selects,
    shown,
    uses_tls,
)

_PROTOCOL: Final = "nginx.ingress.kubernetes.io/backend-protocol"


def transport(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield callers that speak TLS to plain servers or the reverse, and unfit certificates."""
    for workload in our_workloads(manifests):
        if uses_tls(workload, manifests) and workload.is_served:
            yield from _certificate_problems(workload, manifests)
    known = by_name(manifests, "Service")
    for monitor in of_kind(manifests, "ServiceMonitor"):
        found = [
            service
            for service in known.values()
            if selects(monitor["spec"]["selector"], service["metadata"].get("labels", {}))
        ]
        if not found:
            yield f"{shown(monitor)}: selects no service"
        for service in found:
            yield from _monitor_problems(monitor, service, manifests)
    for ingress in of_kind(manifests, "Ingress"):
        backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        if backend["name"] not in known:
            continue  # reported by `services`
        service = known[backend["name"]]
        target = behind(service, manifests)
        if target is None:
            continue  # reported by `services`
        wanted = "GRPC" if backend["port"].get("name") == "grpc" else "HTTP"
        wanted += "S" if uses_tls(target, manifests) else ""
        if ingress["metadata"]["annotations"].get(_PROTOCOL) != wanted:
            yield f"{shown(ingress)}: its backend speaks {wanted}"


def _certificate_problems(workload: Workload, manifests: Sequence[Manifest]) -> Iterator[str]:
    secrets = {
        volume["secret"]["secretName"]
        for volume in workload.pod.get("volumes", [])
        if volume["name"] == "tls"
    }
    certificates = [
        certificate
        for certificate in of_kind(manifests, "Certificate")
        if certificate["spec"]["secretName"] in secrets
    ]
    if len(certificates) != 1:
        yield f"{workload.shown}: has {len(certificates)} certificates"
        return
    names = certificates[0]["spec"].get("dnsNames", [])
    for service in of_kind(manifests, "Service"):
        chosen = service["spec"].get("selector")
        is_called = any(port.get("name") != METRICS for port in service["spec"]["ports"])
        if chosen and is_called and selects({"matchLabels": chosen}, workload.labels):
            name = service["metadata"]["name"]
            if name not in names:
                yield f"{shown(certificates[0])}: does not name its service {name}"


def _monitor_problems(
    monitor: Manifest, service: Manifest, manifests: Sequence[Manifest]
) -> Iterator[str]:
    workload = behind(service, manifests)
    if workload is None:
        return  # reported by `services`
    is_tls = uses_tls(workload, manifests)
    for endpoint in monitor["spec"]["endpoints"]:
        if endpoint["port"] not in {port.get("name") for port in service["spec"]["ports"]}:
            yield f"{shown(monitor)}: {shown(service)} has no port {endpoint['port']}"
        if (endpoint.get("scheme", "http") == "https") != is_tls:
            yield f"{shown(monitor)}: does not speak as {workload.shown} does"
        if is_tls:
            name = endpoint.get("tlsConfig", {}).get("serverName")
            secret = workload.labels["app.kubernetes.io/name"] + "-tls"
            if name is None or endpoint["tlsConfig"].get("insecureSkipVerify"):
                yield f"{shown(monitor)}: does not verify the certificate in {secret}"
