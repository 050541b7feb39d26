"""Completeness check of a run's output, for `make bench-quick`, which judges no figure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.gates import GATES
from bench.report import document
from bench.report.document import Document, ScenarioRecord
from bench.report.layers import layers

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_FROM_OUTSIDE: Final = re.compile(r"""(?:src|href)=(?!"(?:data:|#))|@import|url\((?!data:)""")


def report_problems(name: str, scenarios: Sequence[str], folder: Path) -> list[str]:
    """Return what is wrong with the report of this name; nothing if it has all of these scenarios.

    Raise OSError or ValueError when there is no readable report.
    """
    report = document.read(document.json_path(name, folder))
    found = [
        f"{name} is not in the report" for name in scenarios if name not in report["scenarios"]
    ]
    for scenario, record in report["scenarios"].items():
        found += [f"{scenario}: {text}" for text in _of_scenario(scenario, record)]
    return [*found, *_of_files(report, folder)]


def _of_scenario(name: str, record: ScenarioRecord) -> Iterator[str]:
    measured = [gate["name"] for gate in record["gates"]]
    for gate in GATES[name]:
        if measured.count(gate.name) != 1:
            yield f"gate {gate.name} was measured {measured.count(gate.name)} times"
    for row in record["gates"]:
        low, middle, high = row["minimum"], row["median"], row["maximum"]
        if low is None or middle is None or high is None:
            yield f"{row['name']} is not a number"
        elif not low <= middle <= high:
            yield f"{row['name']} has its median outside of its rounds"
    if not record["figures"]:
        yield "the gates have no figures"
    for series in record["series"]:
        if not series["x"] or len(series["x"]) != len(series["y"]):
            yield f"series {series['name']} has {len(series['x'])} x and {len(series['y'])} y"
        if not all(math.isfinite(y) and y >= 0 for y in series["y"]):
            yield f"series {series['name']} has a value that cannot be"


def _of_files(report: Document, folder: Path) -> Iterator[str]:
    name = report["name"]
    plots = {
        f"{series['plot']}-{scenario}"
        for scenario, record in report["scenarios"].items()
        for series in record["series"]
        if series["plot"] != "layers"
    }
    if len(layers(report)) > 1:
        plots.add("layers")
    for plot in sorted(plots):
        path = folder / f"{name}-{plot}.png"
        if not path.exists() or not path.read_bytes().startswith(_PNG):
            yield f"{path.name} is not a picture"
    page = folder / f"{name}.html"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    if "</html>" not in text:
        yield f"{page.name} is not a complete page"
    if outside := _FROM_OUTSIDE.search(text):
        yield f"{page.name} needs something from outside: {text[outside.start() :][:60]!r}"
