"""The files that are written from code, by path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tools.monitoring import rules
from tools.monitoring.dashboards import DASHBOARDS

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PROMETHEUS: Final = Path("deploy/prometheus")
GRAFANA: Final = Path("deploy/grafana")
OPERATOR_RESOURCE: Final = Path("deploy/k8s/components/monitoring/prometheus-rule.yaml")
_FOLDERS: Final = (PROMETHEUS / "rules", PROMETHEUS / "tests", GRAFANA)
"""Folders in which every file is written from code."""


def generated() -> Mapping[Path, str]:
    """Return the content of each file, by its path below the root."""
    files: dict[Path, str] = {OPERATOR_RESOURCE: rules.operator_resource()}
    for name, groups in rules.RULE_FILES.items():
        files[PROMETHEUS / "rules" / f"{name}.yaml"] = rules.rule_file(groups())
        for step, text in rules.rule_tests(name, groups()).items():
            files[PROMETHEUS / "tests" / f"{name}-{step}.yaml"] = text
    for dashboard in DASHBOARDS:
        name = dashboard.uid.removeprefix("sluice-")
        files[GRAFANA / f"{name}.json"] = dashboard.document()
    return files


def stale(root: Path = ROOT) -> list[Path]:
    """Return the files that differ from the code, and those that it does not write any more."""
    files = generated()
    different = [
        path
        for path, text in files.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]
    return different + _left_over(root, files)


def write(root: Path = ROOT) -> None:
    files = generated()
    for path in _left_over(root, files):
        (root / path).unlink()
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def _left_over(root: Path, files: Mapping[Path, str]) -> list[Path]:
    found = (path for folder in _FOLDERS for path in sorted((root / folder).glob("*")))
    return [path.relative_to(root) for path in found if path.relative_to(root) not in files]
