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

SUFFIX: Final = "-green"
GATEWAY: Final = "gateway"
SCRAPED: Final = "gateway-metrics"
_OWN_KINDS: Final = ("Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service")
"""What each track has for itself under the name `GATEWAY`, besides config maps and `SCRAPED`."""
_OWN: Final = frozenset({*((kind, GATEWAY) for kind in _OWN_KINDS), ("Service", SCRAPED)})


def switched(blue: Sequence[Manifest], green: Sequence[Manifest]) -> list[Manifest]:
    """Return what runs once all traffic goes to the green track, under the names of the blue one.

    So that every policy applies to it.
    """
    found = [each for each in blue if (each["kind"], name_of(each)) not in _OWN]
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
    for kind, name in sorted(_OWN):
        if name + SUFFIX not in by_name(green, kind):
            yield f"the green track has no {kind} {name}{SUFFIX}"
    for kind in {*_OWN_KINDS, "ConfigMap"}:
        for name in by_name(blue, kind).keys() & by_name(green, kind).keys():
            yield f"{kind} {name}: the green track would replace it"
    both = [*blue, *green]
    for manifest in of_kind(both, *_OWN_KINDS):
        if (manifest["kind"], _on_blue(manifest)) in _OWN:
            yield from _selector_problems(manifest, both)
    yield from (f"both tracks: {problem}" for problem in quota(both))


def _foreign(green: Sequence[Manifest]) -> Iterator[str]:
    for manifest in green:
        is_own = (
            name_of(manifest).endswith(SUFFIX) and (manifest["kind"], _on_blue(manifest)) in _OWN
        )
        if not is_own and manifest["kind"] != "ConfigMap":
            yield f"{shown(manifest)}: both tracks share it; leave it out of the green one"


def _on_blue(manifest: Manifest) -> str:
    """Return the name that the blue track has for it."""
    return name_of(manifest).removesuffix(SUFFIX)


def _selector_problems(manifest: Manifest, both: Sequence[Manifest]) -> Iterator[str]:
    """Yield a selector that selects the pods of the other track, or none."""
    spec = manifest["spec"]
    if "selector" not in spec:
        return
    selector = spec["selector"]
    if manifest["kind"] == "Service":
        selector = {"matchLabels": selector}
    found = [each.name for each in workloads(both) if selects(selector, each.labels)]
    if found != [GATEWAY + SUFFIX if name_of(manifest).endswith(SUFFIX) else GATEWAY]:
        yield f"{shown(manifest)}: selects {', '.join(found) or 'nothing'}"
