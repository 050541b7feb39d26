"""Files of Prometheus: rules, their tests, and the resource of the prometheus-operator."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from tools.monitoring import causes, objectives
from tools.monitoring.model import Alert, Example, Group

HEADER: Final = "# Written by `make monitoring` from tools/monitoring. Do not edit.\n"
RULE_FILES: Final = {"objectives": objectives.groups, "causes": causes.groups}
_LABEL: Final = re.compile(r"\{\{ \$labels\.(\w+) \}\}")


def all_groups() -> tuple[Group, ...]:
    return tuple(group for groups in RULE_FILES.values() for group in groups())


def all_alerts() -> tuple[Alert, ...]:
    return tuple(alert for group in all_groups() for alert in group.alerts)


def rule_file(groups: Iterable[Group]) -> str:
    return _text({"groups": [group.document() for group in groups]})


def rule_tests(name: str, groups: Iterable[Group]) -> Mapping[str, str]:
    """Return files of promtool tests by step: each alert fires, and stays silent."""
    groups = tuple(groups)
    by_step: dict[str, list[dict[str, Any]]] = {}
    for alert in (alert for group in groups for alert in group.alerts):
        by_step.setdefault(alert.fires.step, []).extend(_tests(alert))
    return {
        step: _text(
            {
                "rule_files": [f"../rules/{name}.yaml"],
                "evaluation_interval": step,
                # Recorded ratios first: those of the step before are too old for an alert.
                "group_eval_order": [group.name for group in groups],
                "tests": tests,
            }
        )
        for step, tests in by_step.items()
    }


def operator_resource() -> str:
    """Return all rules as a PrometheusRule."""
    return _text(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {
                "name": "sluice",
                "labels": {
                    "app.kubernetes.io/name": "sluice",
                    "app.kubernetes.io/part-of": "sluice",
                },
            },
            "spec": {"groups": [group.document() for group in all_groups()]},
        }
    )


def _tests(alert: Alert) -> list[dict[str, Any]]:
    return [
        *(
            _test(f"{alert.name} fires", alert, example, [_fired(alert, example)])
            for example in (alert.fires, *alert.also_fires)
        ),
        *(
            _test(f"{alert.name} does not fire", alert, example, [])
            for example in (alert.quiet, *alert.also_quiet)
        ),
    ]


def _fired(alert: Alert, example: Example) -> dict[str, Any]:
    return {
        "exp_labels": {**alert.labels, **example.labels},
        "exp_annotations": {
            name: _filled(text, example.labels) for name, text in alert.annotations.items()
        },
    }


def _test(name: str, alert: Alert, example: Example, fired: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "interval": "1m",
        "input_series": [
            {"series": series, "values": values} for series, values in example.series.items()
        ],
        "alert_rule_test": [
            {"eval_time": example.at, "alertname": alert.name, "exp_alerts": fired}
        ],
    }


def _filled(text: str, labels: Mapping[str, str]) -> str:
    return _LABEL.sub(lambda found: labels[found.group(1)], text)


def _text(document: Any) -> str:
    body: str = yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)
    return HEADER + body
