"""Values that rules are made of, and their form in a Prometheus rule file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

RUNBOOKS: Final = "https://sluice.example.com/docs/runbooks"
"""Base of the links to runbooks. Set it to the address at which you serve docs/."""
BY_NAMESPACE: Final = "by (namespace)"
"""Deployments that one Prometheus scrapes are judged separately. Without Kubernetes the label is
absent, and all targets are one deployment."""


class Severity(StrEnum):
    """What an alert asks for."""

    CRITICAL = "critical"
    """Page."""
    WARNING = "warning"
    """Read on the next working day."""


@dataclass(frozen=True, slots=True)
class Example:
    """Input of a rule test: series in promtool's notation, one value a minute.

    Args:
        labels: of the expected alert, besides those of the rule.
        step: interval of the evaluation. Days in steps of a minute take minutes to test.
    """

    series: Mapping[str, str]
    at: str = "30m"
    labels: Mapping[str, str] = field(default_factory=dict)
    step: str = "1m"


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule with inputs that fire it and inputs that do not.

    `value` returns data while everything is well, and `condition` selects what is wrong in it: so
    a check can tell a healthy system from a misspelt query.
    """

    name: str
    value: str
    condition: str
    wait: str
    severity: Severity
    summary: str
    description: str
    runbook: str
    fires: Example
    quiet: Example
    also_fires: tuple[Example, ...] = ()
    also_quiet: tuple[Example, ...] = ()
    more_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def expression(self) -> str:
        return f"{self.value} {self.condition}".strip()

    @property
    def labels(self) -> Mapping[str, str]:
        return {"severity": self.severity.value, **self.more_labels}

    @property
    def annotations(self) -> Mapping[str, str]:
        return {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{RUNBOOKS}/{self.runbook}.md",
        }

    def rule(self) -> dict[str, Any]:
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.wait,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
        }


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule."""

    name: str
    expression: str

    def rule(self) -> dict[str, Any]:
        return {"record": self.name, "expr": self.expression}


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, in order."""

    name: str
    rules: tuple[Alert | Recording, ...]
    interval: str = "30s"

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "interval": self.interval,
            "rules": [rule.rule() for rule in self.rules],
        }

    @property
    def alerts(self) -> tuple[Alert, ...]:
        return tuple(rule for rule in self.rules if isinstance(rule, Alert))
