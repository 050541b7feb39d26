"""Schemas refuse what a cluster would refuse, and what it would silently drop."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tools.backends.errors import ServiceError
from tools.deploy_checks import crds
from tools.deploy_checks.crds import strict
from tools.deploy_checks.manifests import Manifest
from tools.deploy_checks.rendering import read_rendered
from tools.deploy_checks.schemas import CRDS, Schemas


def manifest_of(kind: str, name: str) -> Manifest:
    return next(
        each
        for each in read_rendered("keda")
        if each["kind"] == kind and each["metadata"]["name"] == name
    )


def misspell(manifest: Manifest) -> None:
    manifest["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 30


def mistype(manifest: Manifest) -> None:
    manifest["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "50051"


def forget(manifest: Manifest) -> None:
    del manifest["spec"]["selector"]


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (misspell, "terminationGracePeriodSecond"),
        (mistype, "not of type 'integer'"),
        (forget, "'selector' is a required"),
    ],
)
def test_broken_deployment_is_refused(breaks: Callable[[Manifest], None], says: str) -> None:
    schemas, deployment = Schemas(), manifest_of("Deployment", "intake")
    assert list(schemas.problems([deployment])) == []
    breaks(deployment)
    assert any(says in problem for problem in schemas.problems([deployment]))


def test_custom_resource_is_checked_by_a_named_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the folder the summary says what was not validated."""
    scaled = manifest_of("ScaledObject", "processor")
    monkeypatch.delenv(CRDS, raising=False)
    schemas = Schemas()
    assert list(schemas.problems([scaled])) == []
    assert any("1 of keda.sh/v1alpha1 ScaledObject" in line for line in schemas.summary())

    schema: dict[str, Any] = {"properties": {"spec": {"required": ["pause"]}}}
    (tmp_path / "keda.sh").mkdir()
    file = tmp_path / "keda.sh" / "scaledobject_v1alpha1.json"
    file.write_text(json.dumps(schema), encoding="utf-8")
    monkeypatch.setenv(CRDS, str(tmp_path))
    schemas = Schemas()
    (problem,) = schemas.problems([scaled])
    assert "'pause' is a required property" in problem
    assert len(list(schemas.summary())) == 1


@pytest.fixture
def without_go(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(CRDS, raising=False)
    monkeypatch.setattr(crds, "find_program", lambda _: None)
    crds.schemas_of.cache_clear()
    yield
    crds.schemas_of.cache_clear()


@pytest.mark.usefixtures("without_go")
def test_pinned_schemas_are_required_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the summary says that there was no Go to get them."""
    route = next(each for each in read_rendered("gateway-api") if each["kind"] == "GRPCRoute")
    monkeypatch.setenv("SLUICE_REQUIRE_SERVICES", "1")
    with pytest.raises(ServiceError, match=r"gateway\.networking\.k8s\.io need Go"):
        list(Schemas().problems([route]))
    # Those that no module has stay optional.
    assert list(Schemas().problems([manifest_of("ScaledObject", "processor")])) == []

    monkeypatch.delenv("SLUICE_REQUIRE_SERVICES")
    schemas = Schemas()
    assert list(schemas.problems([route])) == []
    assert any("GRPCRoute" in line for line in schemas.summary())


def test_definition_of_a_custom_resource_becomes_strict() -> None:
    """Unknown fields are refused at every depth; metadata and open maps take any."""
    definition = {
        "type": "object",
        "properties": {
            "metadata": {"type": "object"},
            "spec": {
                "type": "object",
                "properties": {
                    "port": {"x-kubernetes-int-or-string": True},
                    "rules": {
                        "type": "array",
                        "items": {"type": "object", "properties": {"name": {"type": "string"}}},
                    },
                    "options": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        },
    }
    validator = jsonschema.Draft202012Validator(strict(definition))
    spec: dict[str, Any] = {"port": "http", "rules": [{"name": "a"}], "options": {"any": "b"}}
    assert validator.is_valid({"metadata": {"name": "c"}, "spec": spec})
    assert validator.is_valid({"spec": {**spec, "port": 80}})
    assert not validator.is_valid({"spec": {**spec, "port": 1.5}})
    assert not validator.is_valid({"spec": {**spec, "rule": []}})
    assert not validator.is_valid({"spec": {**spec, "rules": [{"nam": "a"}]}})
