"""What the tools of Prometheus and Alertmanager say of the files in deploy/prometheus."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from support.clone import ROOT
from tools.monitoring import rules
from tools.monitoring.files import PROMETHEUS
from tools.monitoring.model import Alert

FOLDER: Final = ROOT / PROMETHEUS
RULES: Final = sorted((FOLDER / "rules").glob("*.yaml"))
TESTS: Final = sorted((FOLDER / "tests").glob("*.yaml"))
ALERTMANAGER: Final = FOLDER / "alertmanager.yaml"
SECONDS: Final = 280


def run(*command: str | Path) -> str:
    """Run a tool; return its output, warnings last. Fail the test unless it succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_rules_are_free_of_complaints(program: Callable[[str], str]) -> None:
    assert len(RULES) == len(rules.RULE_FILES)
    printed = run(program("promtool"), "check", "rules", "--lint=all", *RULES)
    found = sum(int(count) for count in re.findall(r"SUCCESS: (\d+) rules found", printed))
    assert found == sum(len(group.rules) for group in rules.all_groups())


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_stay_silent(path: Path, program: Callable[[str], str]) -> None:
    assert "SUCCESS" in run(program("promtool"), "test", "rules", path)


def test_rule_test_notices_a_changed_bound(program: Callable[[str], str], tmp_path: Path) -> None:
    """Otherwise a test that compares nothing would pass as well."""
    shutil.copytree(FOLDER, tmp_path / "copy")
    changed = tmp_path / "copy" / "rules" / "causes.yaml"
    text = changed.read_text(encoding="utf-8")
    assert text.count("> 120\n") == 1
    changed.write_text(text.replace("> 120\n", "> 60\n"), encoding="utf-8")
    (test,) = (path for path in TESTS if path.stem.startswith("causes"))
    command = [program("promtool"), "test", "rules", str(tmp_path / "copy" / "tests" / test.name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 1
    assert "SluiceQueueOld" in done.stdout + done.stderr


def test_scrape_example_is_valid(program: Callable[[str], str]) -> None:
    run(program("promtool"), "check", "config", FOLDER / "prometheus.yaml")


def test_alertmanager_accepts_its_configuration(program: Callable[[str], str]) -> None:
    assert "SUCCESS" in run(program("amtool"), "check-config", ALERTMANAGER)


@pytest.mark.parametrize("alert", rules.all_alerts(), ids=lambda alert: alert.name)
def test_alert_is_routed_by_its_severity(alert: Alert, program: Callable[[str], str]) -> None:
    labels = [f"{name}={value}" for name, value in alert.labels.items()]
    printed = run(
        *(program("amtool"), "config", "routes", "test", f"--config.file={ALERTMANAGER}"),
        *(f"alertname={alert.name}", *labels),
    )
    assert printed.splitlines()[0] == {"critical": "pager", "warning": "tracker"}[alert.severity]
