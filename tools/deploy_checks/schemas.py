"""Validation of manifests against the schemas of Kubernetes and of custom resources, strictly."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import jsonschema
import referencing
import referencing.jsonschema

from tools.backends.errors import ServiceError
from tools.deploy_checks.crds import SOURCES, schemas_of
from tools.deploy_checks.manifests import Manifest, shown

RELEASES: Final = ("v1.32.0", "v1.37.0")
"""The oldest release that the manifests are for, and the newest whose schemas are installed."""
_DEFINITIONS: Final = "_definitions.json"
_BASE: Final = "https://kubernetes.io/api/"
"""Where the schemas of a release say that they are."""
CRDS: Final = "SLUICE_DEPLOY_CRDS"
_BUILT_IN: Final = frozenset(
    {
        "apps",
        "autoscaling",
        "batch",
        "networking.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "",
    }
)


class Schemas:
    """The schemas; it counts what it validated, and what it had no schema for."""

    def __init__(self) -> None:
        self._validated = 0
        self._skipped: Counter[str] = Counter()
        self._registries: dict[str, referencing.Registry[Any]] = {}

    def problems(self, manifests: Sequence[Manifest]) -> Iterator[str]:
        """Yield every breach of a schema: unknown fields too."""
        for manifest in manifests:
            group, _, version = str(manifest["apiVersion"]).rpartition("/")
            if group in _BUILT_IN:
                for release in RELEASES:
                    yield from self._breaches(manifest, self._built_in(release, manifest), release)
                continue
            schema = self._custom(group, version, str(manifest["kind"]))
            if schema is None:
                self._skipped[f"{group}/{version} {manifest['kind']}"] += 1
            else:
                yield from self._breaches(manifest, schema, group)

    def summary(self) -> Iterator[str]:
        """Yield what was validated, and what was not."""
        releases = " and ".join(RELEASES)
        yield f"{self._validated} validations, of Kubernetes' own kinds by {releases}"
        for kind, count in sorted(self._skipped.items()):
            yield f"not validated: {count} of {kind}; name a folder with its schema in {CRDS}"

    def _breaches(
        self, manifest: Manifest, schema: Mapping[str, Any], origin: str
    ) -> Iterator[str]:
        self._validated += 1
        validator = jsonschema.Draft202012Validator(schema, registry=self._registry(origin))
        for error in validator.iter_errors(manifest):
            where = "/".join(str(part) for part in error.absolute_path)
            yield f"{origin}: {shown(manifest)}: {where}: {error.message[:200]}"

    @cached_property
    def _root(self) -> Traversable:
        return files("kubernetes_validate") / "kubernetes-json-schema"

    def _folder(self, release: str) -> Traversable:
        return self._root / f"{release}-local-strict"

    def _built_in(self, release: str, manifest: Manifest) -> Mapping[str, Any]:
        group, _, version = str(manifest["apiVersion"]).rpartition("/")
        name = "-".join(
            part.lower() for part in (manifest["kind"], group.partition(".")[0], version) if part
        )
        file = self._folder(release) / f"{name}.json"
        if not file.is_file():
            raise ServiceError(
                f"Kubernetes {release} has no {manifest['kind']} in {group}/{version}"
            )
        schema: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return schema

    def _registry(self, origin: str) -> referencing.Registry[Any]:
        """Return what the schemas of a release refer to; those of custom resources are whole."""
        if origin not in RELEASES:
            return referencing.Registry()
        if origin not in self._registries:
            text = (self._folder(origin) / _DEFINITIONS).read_text(encoding="utf-8")
            definitions = referencing.jsonschema.DRAFT202012.create_resource(json.loads(text))
            registry: referencing.Registry[Any] = referencing.Registry()
            self._registries[origin] = registry.with_resource(_BASE + _DEFINITIONS, definitions)
        return self._registries[origin]

    def _custom(self, group: str, version: str, kind: str) -> Mapping[str, Any] | None:
        folder = os.environ.get(CRDS)
        if folder is not None:
            file = Path(folder) / group / f"{kind.lower()}_{version}.json"
            if file.is_file():
                schema: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                return schema
        known = schemas_of(group)
        if known is None and group in SOURCES and os.environ.get("SLUICE_REQUIRE_SERVICES") == "1":
            raise ServiceError(
                f"the schemas of {group} need Go; install it, or name them in {CRDS}"
            )
        if known is not None and (version, kind) not in known:
            raise ServiceError(f"{group} has no {kind} in {version}")
        return None if known is None else known[version, kind]
