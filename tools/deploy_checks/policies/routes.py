"""What strangers reach: listeners, hosts, paths, and the protocol behind a route."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tools.deploy_checks.manifests import (
    ROUTES,
    Manifest,
    Workload,
    behind,
    by_name,
    of_kind,
    shown,
    uses_tls,
)

CLOSED: Final = ("/metrics", "/actuator", "/healthz", "/readyz")
"""Paths of the gateway that need no token, and are for the cluster alone."""


def routes(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield routes that nobody can use, that publish too much, or that end streams."""
    gateways = by_name(manifests, "Gateway")
    for gateway in gateways.values():
        for listener in gateway["spec"]["listeners"]:
            if listener["protocol"] != "HTTPS" or not listener["tls"].get("certificateRefs"):
                yield f"{shown(gateway)}: listener {listener['name']} has no certificate"
    for route in of_kind(manifests, *ROUTES):
        yield from _listener_problems(route, gateways)
        yield from _tls_problems(route, manifests)
        if route["kind"] == "HTTPRoute":
            yield from _time_problems(route)
        else:
            yield from _call_time_problems(route, manifests)
    yield from _open_paths(manifests)


def _listener_problems(route: Manifest, gateways: dict[str, Manifest]) -> Iterator[str]:
    for parent in route["spec"]["parentRefs"]:
        gateway = gateways.get(parent["name"])
        listeners = gateway["spec"]["listeners"] if gateway is not None else []
        named = [each for each in listeners if each["name"] == parent.get("sectionName")]
        if not named:
            yield f"{shown(route)}: there is no listener {parent.get('sectionName')}"
        for listener in named:
            kinds = {each["kind"] for each in listener["allowedRoutes"].get("kinds", [])}
            if route["kind"] not in kinds:
                yield f"{shown(route)}: listener {listener['name']} takes no {route['kind']}"
            yield from (
                f"{shown(route)}: listener {listener['name']} is not for {host}"
                for host in route["spec"]["hostnames"]
                if host != listener["hostname"]
            )


def _tls_problems(route: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    known = by_name(manifests, "Service")
    verified = {
        target["name"]: policy["spec"]["validation"]["hostname"]
        for policy in of_kind(manifests, "BackendTLSPolicy")
        for target in policy["spec"]["targetRefs"]
    }
    for name in _backends(route):
        workload = _workload_behind(name, manifests)
        if workload is None or name not in known:
            continue
        if not uses_tls(workload, manifests):
            if name in verified:
                yield f"{shown(route)}: {workload.shown} speaks no TLS, and a policy demands it"
        elif name not in verified:
            yield f"{shown(route)}: {workload.shown} speaks TLS, and no policy says so"
        elif verified[name] != name:
            yield f"{shown(route)}: the certificate of {workload.shown} is not for {verified[name]}"


def _backends(route: Manifest) -> set[str]:
    return {each["name"] for rule in route["spec"]["rules"] for each in rule["backendRefs"]}


def _workload_behind(service: str, manifests: Sequence[Manifest]) -> Workload | None:
    """Return the workload of a service; None for one without pods, or that does not exist."""
    manifest = by_name(manifests, "Service").get(service)
    return None if manifest is None else behind(manifest, manifests)


def _time_problems(route: Manifest) -> Iterator[str]:
    for rule in route["spec"]["rules"]:
        limits = rule.get("timeouts", {})
        if any(_path_of(match)[1] == "/" for match in rule.get("matches", [{}])) and {
            limits.get("request"),
            limits.get("backendRequest"),
        } != {"0s"}:
            yield f"{shown(route)}: a limit of time would end streams; set both to 0s"


def _call_time_problems(route: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield a GRPCRoute, which has no limits itself, whose calls end by the limit of Envoy."""
    limits = [
        policy["spec"].get("timeout", {}).get("http", {}).get("requestTimeout")
        for policy in of_kind(manifests, "BackendTrafficPolicy")
        for target in policy["spec"]["targetRefs"]
        if (target["kind"], target["name"]) == (route["kind"], route["metadata"]["name"])
    ]
    if limits != ["0s"]:
        yield f"{shown(route)}: Envoy ends calls after 15 s; one BackendTrafficPolicy has to say 0s"


@dataclass(frozen=True, slots=True)
class _Rule:
    """A path of one host, and the services to which it leads."""

    is_exact: bool
    path: str
    services: tuple[str, ...]

    def matches(self, path: str) -> bool:
        """Return whether it does; prefixes are compared by elements of the path."""
        return path == self.path or (not self.is_exact and _is_below(path, self.path))


_EXACT: Final = "Exact"
_PREFIX: Final = ("PathPrefix", "Prefix")


def _open_paths(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield paths for the cluster alone that a published host serves.

    What matches exactly wins, then the longest prefix.
    """
    for manifest in of_kind(manifests, "HTTPRoute", "Ingress"):
        for found in _rules_by_host(manifest):
            rules = []
            for kind, path, names in found:
                if kind == _EXACT or kind in _PREFIX:
                    rules.append(_Rule(kind == _EXACT, path, names))
                else:
                    yield f"{shown(manifest)}: {path}: the paths of {kind} cannot be compared"
            for closed in CLOSED:
                below = {rule.path for rule in rules if _is_below(rule.path, closed)}
                for path in sorted({closed, f"{closed}/any", *below}):
                    if _leads_to_gateway(rules, path, manifests):
                        yield f"{shown(manifest)}: publishes {path}"


def _leads_to_gateway(rules: Sequence[_Rule], path: str, manifests: Sequence[Manifest]) -> bool:
    matching = [rule for rule in rules if rule.matches(path)]
    if not matching:
        return False
    winner = max(matching, key=lambda rule: (rule.is_exact, len(rule.path)))
    found = [_workload_behind(name, manifests) for name in winner.services]
    return any(each is not None and each.service == "gateway" for each in found)


def _is_below(path: str, prefix: str) -> bool:
    return path.startswith(prefix.rstrip("/") + "/")


def _path_of(match: Mapping[str, Any]) -> tuple[str, str]:
    """Return the type and the value of a match of an HTTPRoute, with the defaults of its API."""
    path = match.get("path", {})
    return path.get("type", "PathPrefix"), path.get("value", "/")


def _rules_by_host(manifest: Manifest) -> Iterator[list[tuple[str, str, tuple[str, ...]]]]:
    """Yield type, path and services of the rules of each host."""
    if manifest["kind"] == "HTTPRoute":
        yield [
            (*_path_of(match), tuple(each["name"] for each in rule.get("backendRefs", [])))
            for rule in manifest["spec"]["rules"]
            for match in rule.get("matches", [{}])
        ]
        return
    hosts: dict[str | None, list[tuple[str, str, tuple[str, ...]]]] = {}
    for rule in manifest["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            entry = (path["pathType"], path["path"], (path["backend"]["service"]["name"],))
            hosts.setdefault(rule.get("host"), []).append(entry)
    yield from hosts.values()
