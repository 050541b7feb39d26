"""A release that running clusters would refuse, or that takes a service away, is found."""

from __future__ import annotations

import pytest
from deploy.mutations import Breaking, again, put

from tools.deploy_checks.manifests import NAME, PART_OF, of_kind, shown
from tools.deploy_checks.rendering import OVERLAYS, read_rendered
from tools.deploy_checks.selectors import RECORDED, changed_selectors

BLUE = {NAME: "gateway", "sluice/track": "blue"}


def test_selectors_are_those_of_running_clusters() -> None:
    manifests = [each for overlay in OVERLAYS for each in read_rendered(overlay)]
    assert list(changed_selectors(manifests)) == []
    found = of_kind(manifests, "Deployment", "StatefulSet", "Service")
    assert {shown(each) for each in found if "selector" in each["spec"]} == RECORDED.keys()


@pytest.mark.parametrize(
    ("says", "breaks"),
    [
        (
            "Deployment gateway: selects",
            put("Deployment", "gateway", "spec/selector/matchLabels", BLUE),
        ),
        (
            "Deployment intake: selects",
            put(
                "Deployment",
                "intake",
                "spec/selector/matchExpressions",
                [{"key": NAME, "operator": "Exists"}],
            ),
        ),
        ("Service gateway: selects", put("Service", "gateway", "spec/selector", BLUE)),
        ("Service intake: selects", put("Service", "intake", "spec/selector", {PART_OF: "sluice"})),
        (
            "Deployment second: its selector is not recorded",
            again("Deployment", "intake", "second"),
        ),
    ],
)
def test_changed_selector_is_reported(says: str, breaks: Breaking) -> None:
    manifests = read_rendered("prod")
    breaks(manifests)
    (problem,) = changed_selectors(manifests)
    assert problem.startswith(says)
