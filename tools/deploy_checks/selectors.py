"""Selectors that running clusters have: a release with other ones cannot be applied to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tools.deploy_checks.manifests import COMPONENT, NAME, Labels, Manifest, of_kind, shown

RECORDED: Final[Mapping[str, Labels]] = {
    "Deployment gateway": {NAME: "gateway"},
    "Deployment gateway-green": {NAME: "gateway-green"},
    "Deployment intake": {NAME: "intake"},
    "Deployment processor": {NAME: "processor"},
    "Deployment repository-api": {NAME: "repository", COMPONENT: "api"},
    "Deployment repository-parts": {NAME: "repository", COMPONENT: "parts"},
    "Deployment repository-worker": {NAME: "repository", COMPONENT: "worker"},
    "Service gateway": {NAME: "gateway"},
    "Service gateway-green": {NAME: "gateway-green"},
    "Service gateway-metrics": {NAME: "gateway"},
    "Service gateway-metrics-green": {NAME: "gateway-green"},
    "Service intake": {NAME: "intake"},
    "Service kafka": {NAME: "kafka"},
    "Service mysql": {NAME: "mysql"},
    "Service processor": {NAME: "processor"},
    "Service redis": {NAME: "redis"},
    "Service repository": {NAME: "repository", COMPONENT: "api"},
    "Service repository-parts": {NAME: "repository", COMPONENT: "parts"},
    "Service repository-worker": {NAME: "repository", COMPONENT: "worker"},
    "Service s3": {NAME: "s3"},
    "StatefulSet kafka": {NAME: "kafka"},
    "StatefulSet mysql": {NAME: "mysql"},
    "StatefulSet redis": {NAME: "redis"},
    "StatefulSet s3": {NAME: "s3"},
}
"""What each selects. Whoever changes a line says beside it how clusters get over the change.

Kubernetes refuses another selector of a Deployment or a StatefulSet. That of a Service is applied
before the new pods exist (docs/deployment.md): one that the running pods do not match takes the
service away until the rollout, and for good if the rollout fails.
"""


def changed_selectors(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield selectors that differ from those of running clusters."""
    for manifest in of_kind(manifests, "Deployment", "StatefulSet", "Service"):
        selector = manifest["spec"].get("selector")
        if selector is None:
            continue  # a service without pods
        found = selector if manifest["kind"] == "Service" else selector.get("matchLabels")
        if shown(manifest) not in RECORDED:
            yield f"{shown(manifest)}: its selector is not recorded in {__name__}"
        elif found != RECORDED[shown(manifest)] or "matchExpressions" in selector:
            yield (
                f"{shown(manifest)}: selects {found}, and running clusters have"
                f" {dict(RECORDED[shown(manifest)])}: no release can change that in passing"
            )
