"""Schemas of custom resources from the sources of their projects, which Go's module proxy has."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tools.backends.errors import ServiceError
from tools.backends.go_builds import FETCH_SECONDS
from tools.backends.programs import find_program, run_step

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Definitions:
    """CustomResourceDefinitions in a Go module: its version and the checksum of its files."""

    module: str
    version: str
    checksum: str
    folder: str


SOURCES: Final[Mapping[str, Definitions]] = {
    "gateway.networking.k8s.io": Definitions(
        "sigs.k8s.io/gateway-api",
        "v1.4.1",
        "h1:NPxFutNkKNa8UfLd2CMlEuhIPMQgDQ6DXNKG9sHbJU8=",
        "config/crd/standard",
    ),
}
"""By group of the resources."""


@cache
def schemas_of(group: str) -> Mapping[tuple[str, str], Schema] | None:
    """Return the schemas of a group by version and kind; None where they cannot be had.

    They refuse fields that they do not name, which a cluster would drop in silence. The rules in
    CEL, which a cluster applies too, are not in them. Raise `ServiceError` for other files than the
    pinned ones, or when the proxy does not answer.
    """
    source, go = SOURCES.get(group), find_program("go")
    if source is None or go is None:
        return None
    found: dict[tuple[str, str], Schema] = {}
    for file in sorted((_fetched(go, source) / source.folder).glob("*.yaml")):
        for definition in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if definition["kind"] != "CustomResourceDefinition":
                continue
            kind = definition["spec"]["names"]["kind"]
            for version in definition["spec"]["versions"]:
                schema = version["schema"]["openAPIV3Schema"]
                found[version["name"], kind] = strict(schema)
    return found


def _fetched(go: str, source: Definitions) -> Path:
    """Return the folder of a module in Go's cache."""
    environment = {**os.environ, "GOWORK": "off", "GOFLAGS": "-mod=mod"}
    module = f"{source.module}@{source.version}"
    with tempfile.TemporaryDirectory() as scratch:
        command = [go, "mod", "download", "-json", module]
        text = run_step(command, FETCH_SECONDS, directory=Path(scratch), environment=environment)
    answer = json.loads(text[text.index("{") :])
    if answer["Sum"] != source.checksum:
        raise ServiceError(
            f"the files of {module} have the checksum {answer['Sum']} and not {source.checksum}:"
            " do not use them, and find out who changed them"
        )
    return Path(answer["Dir"])


def strict(schema: Mapping[str, Any], *, is_root: bool = True) -> dict[str, Any]:
    """Return a structural schema as JSON Schema that refuses fields that it does not name.

    `allOf`, `anyOf` and `oneOf` only add conditions there, and stay as they are.
    """
    made: dict[str, Any] = {
        key: value for key, value in schema.items() if not key.startswith("x-kubernetes-")
    }
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("nullable"):
        made["type"] = [made["type"], "null"]
    if "properties" in schema:
        made["properties"] = {
            # The metadata of every object are the API server's own.
            name: value if is_root and name == "metadata" else strict(value, is_root=False)
            for name, value in schema["properties"].items()
        }
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    if isinstance(schema.get("items"), dict):
        made["items"] = strict(schema["items"], is_root=False)
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(schema["additionalProperties"], is_root=False)
    return made
