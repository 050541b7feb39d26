"""Manifests of one overlay, and what the policies ask of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Manifest = dict[str, Any]
Labels = Mapping[str, str]

OURS: Final = "sluice"
"""Value of `app.kubernetes.io/part-of` of Sluice's services; those of backends have another."""
NAME: Final = "app.kubernetes.io/name"
COMPONENT: Final = "app.kubernetes.io/component"
PART_OF: Final = "app.kubernetes.io/part-of"
WORKLOAD_KINDS: Final = ("Deployment", "StatefulSet", "Job")
METRICS: Final = "metrics"
ROUTES: Final = ("HTTPRoute", "GRPCRoute")
"""Kinds of the Gateway API that lead to services."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, StatefulSet or Job."""

    manifest: Manifest

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def shown(self) -> str:
        """The workload in a problem."""
        return f"{self.kind} {self.name}"

    @property
    def spec(self) -> dict[str, Any]:
        return self.manifest["spec"]  # type: ignore[no-any-return]

    @property
    def pod(self) -> dict[str, Any]:
        return self.spec["template"]["spec"]  # type: ignore[no-any-return]

    @property
    def labels(self) -> Labels:
        """Labels of the pods."""
        return self.spec["template"]["metadata"]["labels"]  # type: ignore[no-any-return]

    @property
    def is_ours(self) -> bool:
        return self.labels.get(PART_OF) == OURS

    @property
    def is_served(self) -> bool:
        """Whether it runs until it is stopped."""
        return self.kind != "Job"

    @property
    def containers(self) -> Sequence[dict[str, Any]]:
        """All containers, init containers first."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def main(self) -> dict[str, Any]:
        """The first container: the service itself."""
        return self.pod["containers"][0]  # type: ignore[no-any-return]

    @property
    def ports(self) -> Mapping[str, int]:
        """Ports of the main container by name."""
        return {port["name"]: port["containerPort"] for port in self.main.get("ports", [])}

    @property
    def service(self) -> str:
        """The service that the image runs: `repository` for the job that migrates, too."""
        image = str(self.main["image"]).partition("@")[0].rpartition("/")[2]
        return image.partition(":")[0].removeprefix("sluice-")


def of_kind(manifests: Sequence[Manifest], *kinds: str) -> Iterator[Manifest]:
    """Yield the manifests of these kinds."""
    return (manifest for manifest in manifests if manifest["kind"] in kinds)


def name_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def shown(manifest: Manifest) -> str:
    """Return the manifest in a problem."""
    return f"{manifest['kind']} {name_of(manifest)}"


def workloads(manifests: Sequence[Manifest]) -> list[Workload]:
    """Return all workloads."""
    return [Workload(manifest) for manifest in of_kind(manifests, *WORKLOAD_KINDS)]


def our_workloads(manifests: Sequence[Manifest]) -> list[Workload]:
    """Return the workloads of Sluice itself."""
    return [workload for workload in workloads(manifests) if workload.is_ours]


def by_name(manifests: Sequence[Manifest], kind: str) -> dict[str, Manifest]:
    """Return the manifests of one kind by name."""
    return {name_of(manifest): manifest for manifest in of_kind(manifests, kind)}


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Return whether a label selector of Kubernetes selects these labels; an empty one does."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        value, operator = labels.get(rule["key"]), rule["operator"]
        match operator:
            case "In":
                is_met = value in rule["values"]
            case "NotIn":
                is_met = value not in rule["values"]
            case "Exists":
                is_met = value is not None
            case "DoesNotExist":
                is_met = value is None
            case _:
                raise ValueError(f"{operator} is no operator of a label selector")
        if not is_met:
            return False
    return True


def selected(manifests: Sequence[Manifest], selector: Mapping[str, Any]) -> list[Workload]:
    """Return the workloads whose pods a label selector selects."""
    return [each for each in workloads(manifests) if selects(selector, each.labels)]


def behind(service: Manifest, manifests: Sequence[Manifest]) -> Workload | None:
    """Return the workload of a service; None for one without pods.

    The policy `services` reports selectors that select nothing, or more than one.
    """
    selector = service["spec"].get("selector")
    found = selected(manifests, {"matchLabels": selector}) if selector else []
    return found[0] if found else None


def uses_tls(workload: Workload, manifests: Sequence[Manifest]) -> bool:
    """Return whether the servers of a workload speak TLS."""
    return "SLUICE_TLS__CERT_FILE" in environment_of(workload, manifests)


def environment_of(workload: Workload, manifests: Sequence[Manifest]) -> dict[str, str]:
    """Return the variables that the manifests set in the main container.

    Later ones win, as in Kubernetes: config maps in their order, then single variables. A config
    map that is missing adds none; `settings.py` reports it.
    """
    maps = by_name(manifests, "ConfigMap")
    found: dict[str, str] = {}
    for source in workload.main.get("envFrom", []):
        found |= maps.get(source.get("configMapRef", {}).get("name"), {}).get("data", {})
    for entry in workload.main.get("env", []):
        if "value" in entry:
            found[entry["name"]] = entry["value"]
    return found


_UNITS: Final = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
}


def bytes_of(quantity: object) -> int:
    """Return a quantity of memory or disk in bytes."""
    text = str(quantity)
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return int(text)


def cores_of(quantity: object) -> float:
    """Return a quantity of processor time in cores."""
    text = str(quantity)
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)
