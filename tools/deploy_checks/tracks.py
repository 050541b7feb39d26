"""Two tracks of gateways: what is applied beside an overlay, and what runs after the switch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Final

from tools.deploy_checks.manifests import (
    Manifest,
    by_name,
    name_of,
    of_kind,
    selects,
    shown,
    workloads,
)
from tools.deploy_checks.policies.resources import quota

TRACK: Final = "sluice/track"
SUFFIX: Final = "-green"
GATEWAY: Final = "gateway"
_OWN_KINDS: Final = ("Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service")
"""What each track has for itself, besides config maps."""


def switched(blue: Sequence[Manifest], green: Sequence[Manifest]) -> list[Manifest]:
    """Return what runs once all traffic goes to the green track, under the names of the blue one.

    So that every policy applies to it.
    """
    found = [each for each in blue if each["kind"] not in _OWN_KINDS or name_of(each) != GATEWAY]
    for manifest in copy.deepcopy(list(green)):
        if manifest["kind"] in _OWN_KINDS:
            metadata = manifest["metadata"]
            metadata["name"] = metadata["name"].removesuffix(SUFFIX)
        if manifest["kind"] == "HorizontalPodAutoscaler":
            target = manifest["spec"]["scaleTargetRef"]
            target["name"] = target["name"].removesuffix(SUFFIX)
        found.append(manifest)
    return found


def track_problems(blue: Sequence[Manifest], green: Sequence[Manifest]) -> Iterator[str]:
    """Yield what keeps two tracks from running side by side."""
    yield from _foreign(green)
    for kind in _OWN_KINDS:
        if GATEWAY + SUFFIX not in by_name(green, kind):
            yield f"the green track has no {kind}"
    for kind in {*_OWN_KINDS, "ConfigMap"}:
        for name in by_name(blue, kind).keys() & by_name(green, kind).keys():
            yield f"{kind} {name}: the green track would replace it"
    both = [*blue, *green]
    for manifest in of_kind(both, *_OWN_KINDS):
        if name_of(manifest).removesuffix(SUFFIX) != GATEWAY:
            continue
        yield from _selector_problems(manifest, both)
    yield from (f"both tracks: {problem}" for problem in quota(both))


def _foreign(green: Sequence[Manifest]) -> Iterator[str]:
    for manifest in green:
        is_gateway = manifest["kind"] in _OWN_KINDS and name_of(manifest) == GATEWAY + SUFFIX
        if not is_gateway and manifest["kind"] != "ConfigMap":
            yield f"{shown(manifest)}: both tracks share it; leave it out of the green one"


def _selector_problems(manifest: Manifest, both: Sequence[Manifest]) -> Iterator[str]:
    """Yield a selector that selects the pods of the other track, or none."""
    spec = manifest["spec"]
    if "selector" not in spec:
        return
    selector = spec["selector"]
    if manifest["kind"] == "Service":
        selector = {"matchLabels": selector}
    found = [each.name for each in workloads(both) if selects(selector, each.labels)]
    if found != [name_of(manifest)]:
        yield f"{shown(manifest)}: selects {', '.join(found) or 'nothing'}"
