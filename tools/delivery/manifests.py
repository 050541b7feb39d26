"""Rendered manifests: images replaced by digests, and the order in which they are applied."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tools.delivery.errors import DeliveryError

Manifest = dict[str, Any]
_OURS: Final = re.compile(r"(?:^|/)(sluice-[a-z]+)(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?$")
_CONTAINERS: Final = ("containers", "initContainers")


@dataclass(frozen=True, slots=True)
class Steps:
    """What is applied in turn, so that a release never runs on a schema that is not there yet."""

    foundation: Sequence[Manifest]
    """Namespace, configuration, accounts, policies."""
    jobs: Sequence[Manifest]
    """Migrations; they complete before the next step."""
    deployments: Sequence[Manifest]


def with_digests(manifests: Sequence[Manifest], images: Mapping[str, str]) -> list[Manifest]:
    """Return the manifests with each image of ours replaced by the one of its name.

    Raise `DeliveryError` if there is none for one of them, or none of ours at all.
    """
    replaced = 0
    result = copy.deepcopy(list(manifests))
    for container in _containers(result):
        ours = _OURS.search(container["image"])
        if ours is None:
            continue
        if ours[1] not in images:
            raise DeliveryError(f"no digest is known of {container['image']}")
        container["image"] = images[ours[1]]
        replaced += 1
    if not replaced:
        raise DeliveryError("the overlay uses none of our images: is it the right one?")
    return result


def in_steps(manifests: Sequence[Manifest]) -> Steps:
    """Sort them by kind; their order within a step stays."""
    special = ("Job", "Deployment")
    return Steps(
        [one for one in manifests if one["kind"] not in special],
        [one for one in manifests if one["kind"] == "Job"],
        [one for one in manifests if one["kind"] == "Deployment"],
    )


def _containers(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _containers(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in _CONTAINERS and isinstance(item, list):
                yield from (one for one in item if isinstance(one.get("image"), str))
            else:
                yield from _containers(item)
