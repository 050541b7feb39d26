"""Policies: what the manifests of every overlay have to be.

A policy takes all manifests of one overlay and yields its problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from tools.deploy_checks.manifests import Manifest
from tools.deploy_checks.policies import (
    access,
    aws,
    network,
    pods,
    ports,
    probes,
    resources,
    routes,
    scaling,
    settings,
    transport,
    triggers,
)

Policy = Callable[[Sequence[Manifest]], Iterator[str]]

POLICIES: Final[Mapping[str, Policy]] = {
    "restricted pods": pods.restricted,
    "writable paths": pods.writable_paths,
    "images": pods.images,
    "spread": pods.spread,
    "tokens": access.tokens,
    "secrets": access.secrets,
    "authorities": access.authorities,
    "resources": resources.resources,
    "memory": resources.memory,
    "quota": resources.quota,
    "probes": probes.probes,
    "graceful stop": probes.graceful_stop,
    "settings": settings.settings,
    "ports": ports.ports,
    "services": ports.services,
    "labels": ports.labels,
    "replicas": scaling.replicas,
    "disruption": scaling.disruption,
    "triggers": triggers.triggers,
    "network": network.network,
    "transport": transport.transport,
    "routes": routes.routes,
    "aws": aws.aws,
}


def problems(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield the problems of one overlay, each with its policy."""
    for name, policy in POLICIES.items():
        yield from (f"{name}: {problem}" for problem in policy(manifests))
