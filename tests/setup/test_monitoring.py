"""Dashboards, rules and runbooks: fresh, complete, and made of what the services export."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from sluice_standalone.metrics import StandaloneMetrics
from support.clone import ROOT
from support.exported_metrics import SWITCHED_ON
from support.promql import Selector, declared_series, grouping_labels, problems, selectors
from tools.monitoring import files, objectives, rules
from tools.monitoring.dashboards import DASHBOARDS
from tools.monitoring.model import RUNBOOKS, Alert, Recording, Severity

RECORDED: Final = {
    rule.name: rule.expression
    for group in rules.all_groups()
    for rule in group.rules
    if isinstance(rule, Recording)
}
EXPRESSIONS: Final = {
    **RECORDED,
    **{alert.name: alert.expression for alert in rules.all_alerts()},
    **{
        f"{board.uid}: {panel.title}: {query.legend}": query.expression
        for board in DASHBOARDS
        for panel in board.panels
        for query in panel.queries
    },
}
LINK: Final = re.compile(r"\]\((?!https?://|#)([^)#]+)")


@pytest.fixture(scope="module")
def exported() -> Mapping[str, frozenset[str]]:
    """Series with their labels: of all services, recorded ones, and of Prometheus itself."""
    switched = (group() for group in SWITCHED_ON.values())
    declared = declared_series(StandaloneMetrics(), *switched)
    return {**declared, **dict.fromkeys(RECORDED, frozenset[str]()), "up": frozenset()}


def test_generated_files_are_fresh() -> None:
    assert files.stale() == [], "run `make monitoring`"


def test_stale_and_left_over_files_are_found(tmp_path: Path) -> None:
    files.write(tmp_path)
    assert files.stale(tmp_path) == []
    first, second, *_ = files.generated()
    (tmp_path / first).write_text("other", encoding="utf-8")
    (tmp_path / second).unlink()
    (tmp_path / files.GRAFANA / "old.json").write_text("{}", encoding="utf-8")
    assert files.stale(tmp_path) == [first, second, files.GRAFANA / "old.json"]
    files.write(tmp_path)
    assert files.stale(tmp_path) == []


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expression_reads_what_is_exported(
    name: str, exported: Mapping[str, frozenset[str]]
) -> None:
    assert problems(EXPRESSIONS[name], exported) == []


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sluice_parts", ["sluice_parts is not exported"]),
        ('sluice_parts_total{kind="x"}', ["sluice_parts_total has no label kind"]),
        ('sum by (kind) (sluice_parts_total{outcome!="x", job="y"})', ["no series has the label"]),
        ("sluice_part_seconds_count{le='1'}", ["sluice_part_seconds_count has no label le"]),
        (
            "rate(sluice_part_seconds_bucket[5m]) / sluice_part_second",
            ["sluice_part_second is not"],
        ),
    ],
)
def test_misspelt_expression_is_reported(
    expression: str, expected: list[str], exported: Mapping[str, frozenset[str]]
) -> None:
    found = problems(expression, exported)
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))


def test_selectors_of_an_expression() -> None:
    expression = (
        'sum by (le, a) (rate(x_bucket{b="rate(no)", c!~"d"}[5m])) / on (a)'
        " (max (y offset 1h) or 0 * z:w1h) > 0.5 and time() - v >= 1e3"
    )
    assert list(selectors(expression)) == [
        Selector("x_bucket", frozenset("bc")),
        *(Selector(name, frozenset()) for name in ("y", "z:w1h", "v")),
    ]
    assert grouping_labels('sum by (le, a) (b{c="by (d)"})') == {"le", "a"}


def test_alert_names_are_unique() -> None:
    names = [alert.name for alert in rules.all_alerts()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("alert", rules.all_alerts(), ids=lambda alert: alert.name)
def test_alert_is_complete(alert: Alert) -> None:
    page = ROOT / "docs" / "runbooks" / f"{alert.runbook}.md"
    assert alert.annotations["runbook_url"] == f"{RUNBOOKS}/{alert.runbook}.md"
    assert alert.name in page.read_text(encoding="utf-8")
    assert alert.severity in set(Severity)
    assert alert.summary[-1] != "."
    assert alert.description[-1] == "."
    assert alert.fires.series != alert.quiet.series


def test_each_alert_has_both_rule_tests() -> None:
    """At least one in which it is expected, and one in which nothing is."""
    tests: dict[str, list[list[Any]]] = {}
    for path in sorted((ROOT / files.PROMETHEUS / "tests").glob("*.yaml")):
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for case in test["alert_rule_test"]:
                tests.setdefault(case["alertname"], []).append(case["exp_alerts"])
    assert tests.keys() == {alert.name for alert in rules.all_alerts()}
    assert all(set(map(len, expected)) == {0, 1} for expected in tests.values())


def test_runbooks_have_the_parts_that_a_reader_needs() -> None:
    pages = {alert.runbook for alert in rules.all_alerts()}
    folder = ROOT / "docs" / "runbooks"
    assert {path.stem for path in folder.glob("*.md")} == pages | {"README"}
    index = (folder / "README.md").read_text(encoding="utf-8")
    for page in pages:
        text = (folder / f"{page}.md").read_text(encoding="utf-8")
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["What it means", "See it", "Mend it", "Do not"], page
        assert f"({page}.md)" in index


@pytest.mark.parametrize("document", ["slo.md", *[f"runbooks/{p.name}" for p in sorted(
    (ROOT / "docs" / "runbooks").glob("*.md"))]])  # fmt: skip
def test_links_of_operators_documents_lead_somewhere(document: str) -> None:
    path = ROOT / "docs" / document
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_burn_rates_spend_their_share() -> None:
    """A burn of its rate for the long window is that share of the budget of 28 days."""
    for burn in (*objectives.FAST, *objectives.SLOW):
        spent = burn.rate * burn.long_hours / (objectives.PERIOD_DAYS * 24)
        assert spent == pytest.approx(burn.share, rel=0.01)
        assert {burn.long, burn.short} <= set(objectives.WINDOWS)


def test_bounds_of_objectives_are_buckets() -> None:
    """A bound between two buckets would select no series."""
    registry = StandaloneMetrics().registry
    buckets = {
        sample.labels["le"] for family in registry.collect() for sample in family.samples
        if sample.name == "sluice_upload_completion_seconds_bucket"
    }  # fmt: skip
    assert "60.0" in buckets
    acks = StandaloneMetrics().intake.ack_seconds
    acks.labels("accepted")
    assert "0.25" in {s.labels.get("le") for f in acks.collect() for s in f.samples}


def test_dashboards_are_valid_for_import() -> None:
    uids = [board.uid for board in DASHBOARDS]
    assert len(set(uids)) == len(uids)
    for board in DASHBOARDS:
        document = json.loads(board.document())
        ids = [panel["id"] for panel in document["panels"]]
        assert len(set(ids)) == len(ids)
        places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in document["panels"]}
        assert len(places) == len(ids)
        titles = [panel["title"] for panel in document["panels"]]
        assert len(set(titles)) == len(titles)
        for panel in document["panels"]:
            assert panel["description"].endswith(".")
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_operator_resource_has_the_same_rules() -> None:
    """Of the files, in order, with the labels by which Kubernetes selects it."""
    resource = yaml.safe_load(files.generated()[files.OPERATOR_RESOURCE])
    assert resource["metadata"]["labels"]["app.kubernetes.io/part-of"] == "sluice"
    groups: list[Any] = []
    for name in rules.RULE_FILES:
        text = (ROOT / files.PROMETHEUS / "rules" / f"{name}.yaml").read_text(encoding="utf-8")
        groups += yaml.safe_load(text)["groups"]
    assert resource["spec"]["groups"] == groups
