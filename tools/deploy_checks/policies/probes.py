"""Probes, and the end of a pod."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sluice_common.telemetry.exposition import LOOP_ANSWER_SECONDS
from tools.deploy_checks.loading import load
from tools.deploy_checks.manifests import (
    METRICS,
    Manifest,
    Workload,
    of_kind,
    our_workloads,
    selects,
    uses_tls,
)

_PATHS: Final = {
    "startupProbe": "/readyz",
    "readinessProbe": "/readyz",
    # A backend that fails is no reason to restart, and /healthz asks the event loop alone.
    "livenessProbe": "/healthz",
}
PRE_STOP_SECONDS: Final = 5
"""Until every proxy and client knows that a pod goes."""
EXIT_SECONDS: Final = 5
"""For the end of the process after its drain."""


def probes(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield probes that are missing, or that the service does not answer."""
    for workload in our_workloads(manifests):
        if not workload.is_served:
            continue
        for kind, path in _PATHS.items():
            probe = workload.main.get(kind)
            if probe is None:
                yield f"{workload.shown}: has no {kind}"
                continue
            is_tls = uses_tls(workload, manifests)
            for problem in _probe_problems(probe, path, workload, is_tls=is_tls):
                yield f"{workload.shown}: {kind}: {problem}"


def _probe_problems(
    probe: Mapping[str, Any], path: str, workload: Workload, *, is_tls: bool
) -> Iterator[str]:
    if probe.get("timeoutSeconds", 1) <= LOOP_ANSWER_SECONDS:
        yield f"its time is up before the service gives up, after {LOOP_ANSWER_SECONDS:g} s"
    if "grpc" in probe:
        if path == "/healthz":
            yield "gRPC health is readiness; ask /healthz"
        if is_tls:
            yield "the kubelet speaks gRPC without TLS only"
        if probe["grpc"]["port"] != workload.ports.get("grpc"):
            yield "no gRPC server listens on its port"
        return
    asked = probe.get("httpGet", {})
    if asked.get("path") != path:
        yield f"asks {asked.get('path')} instead of {path}"
    if asked.get("port") != METRICS:
        yield "asks another port than `metrics`"
    if (asked.get("scheme", "HTTP") == "HTTPS") != is_tls:
        yield "does not speak as the server does (HTTP or HTTPS)"


def is_called(workload: Workload, manifests: Sequence[Manifest]) -> bool:
    """Return whether clients call a workload, not only those who scrape it."""
    return any(
        selects({"matchLabels": service["spec"].get("selector") or {}}, workload.labels)
        and any(port["name"] != METRICS for port in service["spec"]["ports"])
        for service in of_kind(manifests, "Service")
        if service["spec"].get("selector")
    )


def graceful_stop(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield services that are killed before they have drained, or that calls still reach then."""
    for workload in our_workloads(manifests):
        if not workload.is_served:
            continue
        hook = workload.main.get("lifecycle", {}).get("preStop", {})
        sleep = hook.get("sleep", {}).get("seconds", 0)
        if is_called(workload, manifests) and sleep < PRE_STOP_SECONDS:
            yield f"{workload.shown}: has no preStop sleep of {PRE_STOP_SECONDS} s"
        needed = sleep + load(workload, manifests).drain_seconds + EXIT_SECONDS
        grace = workload.pod.get("terminationGracePeriodSeconds", 30)
        if grace < needed:
            yield f"{workload.shown}: ends after {grace} s, and needs {needed:g} s"
        strategy = workload.spec.get("strategy", {}).get("rollingUpdate", {})
        if strategy.get("maxUnavailable") != 0:
            yield f"{workload.shown}: a rollout may take pods away before others are ready"
