"""Network policies: each needed connection is allowed, and no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from tools.deploy_checks.manifests import (
    ROUTES as ROUTE_KINDS,
)
from tools.deploy_checks.manifests import (
    Manifest,
    Workload,
    environment_of,
    of_kind,
    selects,
    workloads,
)

NAMESPACE: Final = "sluice"
INGRESS: Final = "ingress-nginx"
"""Namespace of the ingress controller."""
ROUTES: Final = "envoy-gateway-system"
"""Namespace of the proxies that serve routes of the Gateway API."""
DOORS: Final[Mapping[str, tuple[tuple[str, ...], int]]] = {
    INGRESS: (("Ingress",), 443),
    ROUTES: (ROUTE_KINDS, 10443),
}
"""Namespaces through which strangers come: the kinds that publish there, the port of HTTPS."""
Arrow = tuple[str, str]
"""Who connects to what: `intake`, `repository-api:50052`. What is outside has a word of its own."""
CALLS: Final[frozenset[Arrow]] = frozenset(
    {
        ("intake", "repository-api:50052"),
        ("gateway", "intake:50051"),
        ("gateway", "repository-api:50052"),
    }
)
"""Calls between the services; who talks to whom is in docs/architecture.md."""
BACKENDS: Final[Mapping[str, frozenset[str]]] = {
    "intake": frozenset({"redis"}),
    "repository-api": frozenset({"redis", "mysql", "kafka", "s3"}),
    "repository-parts": frozenset({"redis", "mysql", "kafka", "s3"}),
    "repository-worker": frozenset({"redis", "mysql", "kafka", "s3"}),
    "processor": frozenset({"mysql", "kafka", "s3"}),
    "gateway": frozenset({"redis", "mysql", "kafka", "s3"}),
    "migrate": frozenset({"mysql"}),
    "bucket": frozenset({"s3"}),
}
"""Backends to which each workload connects: every role of a repository opens them all."""
OUTSIDE: Final[Mapping[int, str]] = {6379: "redis", 3306: "mysql", 9096: "kafka", 443: "https"}
"""Ports of backends that are no pods. Issuers, the store and the queue share one."""
WITH_HTTPS: Final = frozenset(
    {"intake", "repository-api", "repository-parts", "repository-worker", "processor", "gateway"}
)
ENTRIES: Final[Mapping[str, frozenset[str]]] = {
    "clients": frozenset({"intake:50051", "repository-api:50052", "gateway:8080"}),
    INGRESS: frozenset({"intake:50051", "repository-api:50052", "gateway:8080"}),
    ROUTES: frozenset({"intake:50051", "repository-api:50052", "gateway:8080"}),
    "monitoring": frozenset(
        f"{name}:9464"
        for name in (
            "intake",
            "repository-api",
            "repository-parts",
            "repository-worker",
            "processor",
            "gateway",
        )
    ),
}
"""What other namespaces reach."""


def network(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield connections that are needed and refused, or allowed and not needed."""
    policies = list(of_kind(manifests, "NetworkPolicy"))
    everyone = workloads(manifests)
    if not any(_denies_all(policy) for policy in policies):
        yield "no policy refuses what no other allows"
    allowed = {
        (source.name, f"{target.name}:{port}")
        for source in everyone
        for target in everyone
        if source.name != target.name
        for port in target.ports.values()
        if _leaves(policies, source, target, port) and _enters(policies, source, target, port)
    }
    yield from _differences(allowed, _expected_calls(everyone))
    yield from _outside_problems(policies, everyone, manifests)
    yield from _issuer_problems(policies, everyone, manifests)
    yield from _entry_problems(policies, everyone, manifests)


def _denies_all(policy: Manifest) -> bool:
    spec = policy["spec"]
    has_rules = spec.get("ingress") or spec.get("egress")
    is_both = set(spec.get("policyTypes", [])) == {"Ingress", "Egress"}
    return not spec["podSelector"] and is_both and not has_rules


def _expected_calls(everyone: Sequence[Workload]) -> set[Arrow]:
    backends = {each.name: next(iter(each.ports.values()), 0) for each in everyone}
    backends = {name: port for name, port in backends.items() if name not in BACKENDS}
    names = {each.name for each in everyone}
    to_backends = {
        (source, f"{target}:{backends[target]}")
        for source, targets in BACKENDS.items()
        if source in names
        for target in targets & backends.keys()
    }
    return set(CALLS) | to_backends


def _differences(allowed: set[Arrow], wanted: set[Arrow]) -> Iterator[str]:
    for source, target in sorted(wanted - allowed):
        yield f"{source} cannot connect to {target}"
    for source, target in sorted(allowed - wanted):
        yield f"{source} may connect to {target}, and never does"


def _rules(policies: Sequence[Manifest], workload: Workload, way: str) -> Iterator[dict[str, Any]]:
    """Yield the rules of one way (ingress, egress) of the policies that select a workload."""
    for policy in policies:
        spec = policy["spec"]
        if way.capitalize() in spec["policyTypes"] and selects(
            spec["podSelector"], workload.labels
        ):
            yield from spec.get(way) or []


def _has_port(rule: Mapping[str, Any], port: int) -> bool:
    ports = rule.get("ports")
    return ports is None or any(
        each.get("port") == port and each.get("protocol", "TCP") == "TCP" for each in ports
    )


def _names_pod(peers: Sequence[Mapping[str, Any]] | None, workload: Workload) -> bool:
    """Return whether peers have a pod of this namespace; no list of peers has everybody."""
    return peers is None or any(
        "podSelector" in peer
        and "namespaceSelector" not in peer
        and selects(peer["podSelector"], workload.labels)
        for peer in peers
    )


def _leaves(policies: Sequence[Manifest], source: Workload, target: Workload, port: int) -> bool:
    return any(
        _has_port(rule, port) and _names_pod(rule.get("to"), target)
        for rule in _rules(policies, source, "egress")
    )


def _enters(policies: Sequence[Manifest], source: Workload, target: Workload, port: int) -> bool:
    return any(
        _has_port(rule, port) and _names_pod(rule.get("from"), source)
        for rule in _rules(policies, target, "ingress")
    )


def _backends_of(workload: Workload, manifests: Sequence[Manifest]) -> frozenset[str]:
    """Return the backends to which a workload connects with its settings."""
    backends = BACKENDS.get(workload.name, frozenset())
    has_kafka = environment_of(workload, manifests).get("SLUICE_EVENTS") == "kafka"
    return backends if has_kafka else backends - {"kafka"}


def _outside_problems(
    policies: Sequence[Manifest], everyone: Sequence[Workload], manifests: Sequence[Manifest]
) -> Iterator[str]:
    """Compare egress to addresses with the backends that are no pods of these manifests."""
    inside = {each.name for each in everyone}
    for workload in everyone:
        found: set[str] = set()
        for rule in _rules(policies, workload, "egress"):
            if rule.get("to") is None:
                yield f"{workload.name} may connect to everything"
                continue
            if not any("ipBlock" in peer for peer in rule["to"]):
                continue
            for port in rule.get("ports") or [{"port": "every port"}]:
                found.add(OUTSIDE.get(port["port"], str(port["port"])))
        outside = _backends_of(workload, manifests) - inside
        wanted = {"https" if backend == "s3" else backend for backend in outside}
        if outside and workload.name in WITH_HTTPS:
            wanted.add("https")
        yield from _differences(
            {(workload.name, f"{name} outside") for name in found},
            {(workload.name, f"{name} outside") for name in wanted},
        )
        if not any(_is_dns(rule) for rule in _rules(policies, workload, "egress")):
            yield f"{workload.name} cannot resolve names"


def _issuer_problems(
    policies: Sequence[Manifest], everyone: Sequence[Workload], manifests: Sequence[Manifest]
) -> Iterator[str]:
    """Yield services that cannot ask an issuer behind a door of the cluster for its keys.

    Kube-proxy and some networks send what goes to the door's address outside straight to its pods,
    so that a policy sees the pods.
    """
    for workload in everyone:
        if workload.name not in BACKENDS or not workload.is_served:
            continue
        environment = environment_of(workload, manifests)
        issuer = urlsplit(environment.get("SLUICE_AUTH__ISSUER", "")).hostname
        if workload.service not in ("intake", "repository"):
            continue
        for door, (kinds, port) in DOORS.items():
            if issuer not in _hosts(manifests, kinds):
                continue
            if not any(
                _has_port(rule, port) and door in map(_namespace_of, rule.get("to") or [])
                for rule in _rules(policies, workload, "egress")
            ):
                yield f"{workload.name} cannot connect to its issuer behind {door}"


def _hosts(manifests: Sequence[Manifest], kinds: Sequence[str]) -> set[str]:
    """Return the names that the manifests of these kinds publish."""
    found: set[str] = set()
    for manifest in of_kind(manifests, *kinds):
        spec = manifest["spec"]
        found |= set(spec.get("hostnames", []))
        found |= {rule["host"] for rule in spec["rules"] if "host" in rule}
    return found


def _is_dns(rule: Mapping[str, Any]) -> bool:
    protocols = {each.get("protocol") for each in rule.get("ports", []) if each.get("port") == 53}
    return protocols == {"UDP", "TCP"}


def _entry_problems(
    policies: Sequence[Manifest], everyone: Sequence[Workload], manifests: Sequence[Manifest]
) -> Iterator[str]:
    """Compare ingress from other namespaces with what they are there for."""
    found: dict[str, set[str]] = {name: set() for name in ENTRIES}
    for workload in everyone:
        for rule in _rules(policies, workload, "ingress"):
            for peer in rule.get("from") or [{}]:
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    continue
                name = _namespace_of(peer)
                ports = [port for port in workload.ports.values() if _has_port(rule, port)]
                found.setdefault(name, set()).update(f"{workload.name}:{port}" for port in ports)
    active = {"clients"}
    active |= {door for door, (kinds, _) in DOORS.items() if any(of_kind(manifests, *kinds))}
    if any(of_kind(manifests, "ServiceMonitor")):
        active.add("monitoring")
    for name, targets in sorted(found.items()):
        wanted = ENTRIES.get(name, frozenset()) if name in active else frozenset()
        yield from _differences(
            {(f"namespace {name}", target) for target in targets},
            {(f"namespace {name}", target) for target in wanted},
        )


def _namespace_of(peer: Mapping[str, Any]) -> str:
    labels = peer.get("namespaceSelector", {}).get("matchLabels", {})
    values = labels.values()
    return str(next(iter(values))) if len(values) == 1 else "everybody"
