"""Every policy accepts the manifests as they are, and reports each manifest that breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from deploy.mutations import MUTATIONS, Mutation, put
from deploy.route_mutations import ROUTE_MUTATIONS

from tools.deploy_checks.manifests import Manifest
from tools.deploy_checks.policies import POLICIES, problems
from tools.deploy_checks.rendering import BLUE, GREEN, OVERLAYS, read_rendered
from tools.deploy_checks.tracks import switched

Read = Callable[[str], Sequence[Manifest]]
ALL = (*MUTATIONS, *ROUTE_MUTATIONS)


@pytest.fixture(scope="module")
def read() -> Read:
    """Return a function that returns a copy of the manifests of an overlay."""
    known = {overlay: read_rendered(overlay) for overlay in OVERLAYS}
    known[GREEN] = switched(known[BLUE], known[GREEN])
    return lambda overlay: copy.deepcopy(known[overlay])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_keep_every_policy(read: Read, overlay: str, policy: str) -> None:
    assert list(POLICIES[policy](read(overlay))) == []


@pytest.mark.parametrize("mutation", ALL, ids=lambda each: f"{each.policy}: {each.says}")
def test_policy_reports_a_broken_manifest(read: Read, mutation: Mutation) -> None:
    manifests: list[dict[str, Any]] = list(read(mutation.overlay))
    mutation.breaks(manifests)
    found = list(POLICIES[mutation.policy](manifests))
    assert any(mutation.says in problem for problem in found), found


@pytest.mark.parametrize("service", ["intake", "gateway-metrics"])
@pytest.mark.parametrize("overlay", [BLUE, "gateway-api"])
def test_service_without_pods_is_one_problem_and_ends_no_policy(
    read: Read, overlay: str, service: str
) -> None:
    manifests: list[dict[str, Any]] = list(read(overlay))
    put("Service", service, "spec/selector", {"app": "other"})(manifests)
    found = list(problems(manifests))
    assert f"services: Service {service}: selects nothing" in found


def test_every_policy_is_broken_once() -> None:
    assert {mutation.policy for mutation in ALL} == POLICIES.keys()
