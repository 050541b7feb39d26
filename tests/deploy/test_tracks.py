"""Two tracks of gateways side by side: what the check says of each way to mix them up."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from deploy.mutations import Breaking, find, put, remove

from tools.deploy_checks.manifests import NAME, PART_OF, Manifest, Workload, selects
from tools.deploy_checks.rendering import BLUE, GREEN, ROOT, read_rendered
from tools.deploy_checks.tracks import switched, track_problems

D, SERVICE = "Deployment", "Service"


def test_tracks_stand_side_by_side() -> None:
    assert list(track_problems(read_rendered(BLUE), read_rendered(GREEN))) == []


PAGE = ROOT / "docs" / "delivery.md"
WAIT = re.compile(r"wait deployment/(\S+) --for=jsonpath='{.status.readyReplicas}'=\$PODS ")
MINIMUM = re.compile(r"""patch hpa (.+) --type merge --patch '{"spec":{"minReplicas":'\$PODS'}}'""")
SWITCH = re.compile(r"patch service gateway --type merge --patch '(.+)'")


def switching_blocks() -> list[str]:
    blocks = re.findall(r"^```\n(.+?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return [block for block in blocks if SWITCH.search(block)]


def test_documented_switches_choose_the_pods_of_one_track() -> None:
    both = [*read_rendered(BLUE), *read_rendered(GREEN)]
    selector = find(both, SERVICE, "gateway")["spec"]["selector"]
    chosen = []
    for block in switching_blocks():
        patch: dict[str, Any] = json.loads(SWITCH.findall(block)[0])
        patched = {"matchLabels": {**selector, **patch["spec"]["selector"]}}
        pods = [Workload(each) for each in both if each["kind"] == D]
        chosen.append([pod.name for pod in pods if selects(patched, pod.labels)])
    assert chosen == [["gateway-green"], ["gateway"]]


def test_documented_switches_wait_for_the_pods_that_take_over() -> None:
    for block, target in zip(switching_blocks(), ("gateway-green", "gateway"), strict=True):
        minimum, wait, switch = (each.search(block) for each in (MINIMUM, WAIT, SWITCH))
        assert minimum is not None, block
        assert wait is not None, block
        assert switch is not None, block
        assert minimum.start() < wait.start() < switch.start()
        assert target in minimum[1].split()
        assert wait[1] == target


def test_pods_of_both_tracks_may_connect_alike() -> None:
    """The policies of the blue overlay select both, so that the green one brings none."""
    both = [*read_rendered(BLUE), *read_rendered(GREEN)]
    blue, green = (Workload(find(both, D, name)).labels for name in ("gateway", "gateway-green"))
    chosen = [
        (manifest["metadata"]["name"], selects(manifest["spec"]["podSelector"], blue))
        for manifest in both
        if manifest["kind"] == "NetworkPolicy"
        and selects(manifest["spec"]["podSelector"], blue)
        != selects(manifest["spec"]["podSelector"], green)
    ]
    assert chosen == []


def test_after_the_switch_the_gateway_is_the_green_one() -> None:
    blue, green = read_rendered(BLUE), read_rendered(GREEN)
    after = switched(blue, green)
    assert len(after) == len(blue) + len(green) - 5
    images = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["image"]
        for each in after
        if each["kind"] == D
    }
    assert images["gateway"] == "registry.example.com/sluice-gateway:0.2.0"
    assert images["intake"] == "registry.example.com/sluice-intake:0.1.0"


@pytest.mark.parametrize(
    ("says", "breaks_blue", "breaks_green"),
    [
        (
            "Deployment gateway: selects gateway, gateway-green",
            None,
            put(D, "gateway-green", "spec/template/metadata/labels", {NAME: "gateway"}),
        ),
        (
            "Service gateway: selects gateway, intake",
            put(SERVICE, "gateway", "spec/selector", {PART_OF: "sluice"}),
            None,
        ),
        (
            "Service gateway-metrics-green: selects gateway",
            None,
            put(SERVICE, "gateway-metrics-green", "spec/selector", {NAME: "gateway"}),
        ),
        ("has no Service gateway-metrics-green", None, remove(SERVICE, "gateway-metrics-green")),
        ("has no Service gateway-green", None, remove(SERVICE, "gateway-green")),
        ("the green track has no Deployment", None, remove(D, "gateway-green")),
        (
            "the green track would replace it",
            None,
            put(D, "gateway-green", "metadata/name", "gateway"),
        ),
        (
            "PodDisruptionBudget gateway-green: selects gateway",
            None,
            put(
                "PodDisruptionBudget",
                "gateway-green",
                "spec/selector/matchLabels",
                {NAME: "gateway"},
            ),
        ),
        (
            "both tracks: ResourceQuota sluice",
            None,
            put("HorizontalPodAutoscaler", "gateway-green", "spec/maxReplicas", 200),
        ),
    ],
)
def test_tracks_that_mix_are_reported(
    says: str, breaks_blue: Breaking | None, breaks_green: Breaking | None
) -> None:
    blue: list[Manifest] = read_rendered(BLUE)
    green: list[Manifest] = read_rendered(GREEN)
    if breaks_blue is not None:
        breaks_blue(blue)
    if breaks_green is not None:
        breaks_green(green)
    found = list(track_problems(blue, green))
    assert any(says in problem for problem in found), found


def test_shared_manifests_are_left_out_of_the_green_track() -> None:
    blue, green = read_rendered(BLUE), read_rendered(GREEN)
    policy = find(blue, "NetworkPolicy", "default-deny")
    found = list(track_problems(blue, [*green, policy]))
    assert found == [
        "NetworkPolicy default-deny: both tracks share it; leave it out of the green one"
    ]
