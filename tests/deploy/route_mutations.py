"""Broken routes of the Gateway API, and the problem that a policy has to report."""

from __future__ import annotations

from functools import partial
from typing import Final

from deploy.mutations import Mutation, both, put, remove

CLOSED_RULE: Final = "spec/rules/1"
_routed = partial(Mutation, overlay="gateway-api")

ROUTE_MUTATIONS: Final = (
    _routed(
        "routes",
        "listener uploads has no certificate",
        put("Gateway", "sluice", "spec/listeners/1/tls", {"mode": "Terminate"}),
    ),
    _routed(
        "routes",
        "there is no listener files",
        put("GRPCRoute", "intake", "spec/parentRefs/0/sectionName", "files"),
    ),
    _routed("routes", "there is no listener photos", remove("Gateway", "sluice")),
    _routed(
        "routes",
        "listener photos takes no GRPCRoute",
        put("GRPCRoute", "intake", "spec/parentRefs/0/sectionName", "photos"),
    ),
    _routed(
        "routes",
        "listener drives is not for files.example.com",
        put("GRPCRoute", "repository", "spec/hostnames", ["files.example.com"]),
    ),
    _routed("routes", "speaks TLS, and no policy says so", remove("BackendTLSPolicy", "intake")),
    _routed(
        "routes",
        "is not for uploads",
        put("BackendTLSPolicy", "intake", "spec/validation/hostname", "uploads"),
    ),
    _routed(
        "routes",
        "would end streams",
        put("HTTPRoute", "gateway", "spec/rules/0/timeouts", {"request": "30s"}),
    ),
    _routed(
        "routes",
        "GRPCRoute intake: Envoy ends calls after 15 s",
        remove("BackendTrafficPolicy", "streams"),
    ),
    _routed(
        "routes",
        "GRPCRoute repository: Envoy ends calls after 15 s",
        put("BackendTrafficPolicy", "streams", "spec/targetRefs/1", None),
    ),
    _routed(
        "routes",
        "GRPCRoute repository: Envoy ends calls after 15 s",
        put("BackendTrafficPolicy", "streams", "spec/timeout/http/requestTimeout", "1h"),
    ),
    _routed(
        "routes",
        "HTTPRoute gateway: publishes /metrics",
        put("HTTPRoute", "gateway", "spec/rules/1", None),
    ),
    _routed(
        "routes",
        "HTTPRoute gateway: publishes /metrics/any",
        put("HTTPRoute", "gateway", f"{CLOSED_RULE}/matches/0/path/type", "Exact"),
    ),
    _routed(
        "routes",
        "HTTPRoute gateway: publishes /metrics",
        put("HTTPRoute", "gateway", f"{CLOSED_RULE}/matches/0/path/value", "/metric"),
    ),
    _routed(
        "routes",
        "HTTPRoute gateway: publishes /actuator/prometheus",
        put(
            "HTTPRoute",
            "gateway",
            "spec/rules/0/matches",
            [{}, {"path": {"type": "Exact", "value": "/actuator/prometheus"}}],
        ),
    ),
    _routed(
        "routes",
        "HTTPRoute gateway: publishes /healthz",
        put(
            "HTTPRoute",
            "gateway",
            f"{CLOSED_RULE}/backendRefs",
            [{"name": "unrouted", "port": 80}, {"name": "gateway", "port": 8080}],
        ),
    ),
    _routed(
        "routes",
        "the paths of RegularExpression cannot be compared",
        put("HTTPRoute", "gateway", f"{CLOSED_RULE}/matches/0/path/type", "RegularExpression"),
    ),
    Mutation(
        "routes",
        "Ingress gateway: publishes /metrics/any",
        put("Ingress", "gateway", "spec/rules/0/http/paths/1/pathType", "Exact"),
    ),
    Mutation(
        "routes",
        "Ingress gateway: publishes /readyz",
        put("Ingress", "gateway", "spec/rules/0/http/paths/4", None),
    ),
    _routed(
        "services",
        "there is no service panel",
        put("HTTPRoute", "gateway", "spec/rules/0/backendRefs/0/name", "panel"),
    ),
    _routed(
        "services",
        "Service intake has no port 80",
        put("GRPCRoute", "intake", "spec/rules/0/backendRefs/0/port", 80),
    ),
    _routed(
        "network",
        "intake cannot connect to its issuer behind envoy-gateway-system",
        put("NetworkPolicy", "to-issuer", "spec/egress/1", None),
    ),
    _routed(
        "network",
        "intake cannot connect to its issuer behind envoy-gateway-system",
        both(
            put("GRPCRoute", "intake", "spec/hostnames", ["photos.example.com"]),
            both(
                remove("HTTPRoute", "gateway"),
                put("NetworkPolicy", "to-issuer", "spec/egress/1", None),
            ),
        ),
    ),
    _routed(
        "network",
        "namespace envoy-gateway-system cannot connect to gateway:8080",
        remove("NetworkPolicy", "from-routes-to-gateway"),
    ),
)
