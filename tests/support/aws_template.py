"""Committed templates of deploy/aws, with their references resolved for a made-up account."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from support.clone import ROOT

FOLDER: Final = ROOT / "deploy" / "aws" / "template"
STAGES: Final = ("staging", "production")
ACCOUNT: Final = "123456789012"
REGION: Final = "us-east-1"
_PSEUDO: Final = {
    "AWS::Partition": "aws",
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::URLSuffix": "amazonaws.com",
}


@dataclass(frozen=True, slots=True)
class Template:
    """One stage."""

    stage: str
    resources: Mapping[str, dict[str, Any]]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the properties of the resources of a type, by logical id."""
        return {
            name: one.get("Properties", {})
            for name, one in self.resources.items()
            if one["Type"] == kind
        }

    def only(self, kind: str, prefix: str = "") -> tuple[str, dict[str, Any]]:
        """Return the logical id and the properties of the only such resource."""
        found = {name: one for name, one in self.of_type(kind).items() if name.startswith(prefix)}
        if len(found) != 1:
            raise LookupError(f"{len(found)} resources are of {kind} and named {prefix}*")
        return next(iter(found.items()))

    def policy(self, service: str, names: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the resolved statements of a service's role."""
        _, role = self.only("AWS::IAM::Role", f"{service.capitalize()}Role")
        documents = [one["PolicyDocument"] for one in role["Policies"]]
        statements = [one for document in documents for one in document["Statement"]]
        return [dict(self.resolve(one, names)) for one in statements]

    def resolve(self, value: Any, names: Mapping[str, str]) -> Any:
        """Replace the intrinsic functions.

        Args:
            names: of references, as `LogicalId` or `LogicalId.Attribute`.
        """
        if isinstance(value, list):
            return [self.resolve(one, names) for one in value]
        if not isinstance(value, dict):
            return value
        match value:
            case {"Ref": str(name)}:
                return _PSEUDO.get(name) or names[name]
            case {"Fn::GetAtt": [str(name), str(attribute)]}:
                return names[f"{name}.{attribute}"]
            case {"Fn::Join": [str(separator), list(parts)]}:
                return separator.join(self.resolve(part, names) for part in parts)
        return {key: self.resolve(one, names) for key, one in value.items()}


@cache
def load_template(stage: str) -> Template:
    text = (FOLDER / f"{stage}.json").read_text(encoding="utf-8")
    return Template(stage, json.loads(text)["Resources"])


def as_list(value: Any) -> list[Any]:
    """Return the value of a policy's element, which is a list or one of its items."""
    return value if isinstance(value, list) else [value]


def all_statements(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the statements of every policy that says what a role or user may do."""
    for name, role in template.of_type("AWS::IAM::Role").items():
        for policy in role.get("Policies", ()):
            yield from ((name, one) for one in policy["PolicyDocument"]["Statement"])
    for name, policy in template.of_type("AWS::IAM::Policy").items():
        yield from ((name, one) for one in policy["PolicyDocument"]["Statement"])
