"""What strangers reach: listeners, hosts, paths, and the protocol behind a route."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tools.deploy_checks.manifests import (
    ROUTES,
    Manifest,
    Workload,
    by_name,
    of_kind,
    selected,
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
    """Return the workload of a service; None for one without pods."""
    manifest = by_name(manifests, "Service").get(service)
    selector = None if manifest is None else manifest["spec"].get("selector")
    return selected(manifests, {"matchLabels": selector})[0] if selector else None


def _time_problems(route: Manifest) -> Iterator[str]:
    for rule in route["spec"]["rules"]:
        limits = rule.get("timeouts", {})
        if any(match["path"]["value"] == "/" for match in rule["matches"]) and {
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


def _open_paths(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield paths for the cluster alone that a published host serves. The longest prefix wins."""
    for manifest in of_kind(manifests, "HTTPRoute", "Ingress"):
        prefixes = dict(_prefixes(manifest))
        behind = _workload_behind(prefixes.get("/", ""), manifests)
        if behind is None or behind.service != "gateway":
            continue
        for path in CLOSED:
            longest = max((each for each in prefixes if path.startswith(each)), key=len)
            if _workload_behind(prefixes[longest], manifests) is not None:
                yield f"{shown(manifest)}: publishes {path}"


def _prefixes(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield the prefixes of paths with the service of each."""
    for rule in manifest["spec"]["rules"]:
        if manifest["kind"] == "Ingress":
            for path in rule["http"]["paths"]:
                yield path["path"], path["backend"]["service"]["name"]
        else:
            for match in rule["matches"]:
                yield match["path"]["value"], rule["backendRefs"][0]["name"]
