"""A run as data: written to bench/results/, read to resume the run or to publish it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypedDict, cast

from bench.gates import Result
from bench.scenario import Outcome, Series

FORMAT: Final = 1
"""Version of the file format; other versions are refused."""
RESULTS: Final = Path(__file__).parent.parent / "results"


class GateRecord(TypedDict):
    """A measured gate.

    `must` is None for a pure aim; `passed` and `aim_reached` are None where figures are not judged;
    NaN (a share of nothing) is None.
    """

    name: str
    what: str
    unit: str
    must: float | None
    aim: float
    must_text: str
    aim_text: str
    better: str
    minimum: float | None
    median: float | None
    maximum: float | None
    passed: bool | None
    aim_reached: bool | None


class SeriesRecord(TypedDict):
    """One line or one row of bars of a plot."""

    plot: str
    name: str
    x: list[float | str]
    y: list[float]
    unit: str


class ScenarioRecord(TypedDict):
    """Measurements of one scenario, and when it ended."""

    measured_at: str
    seconds: float
    gates: list[GateRecord]
    figures: dict[str, Any]
    series: list[SeriesRecord]


class Document(TypedDict):
    """A whole run."""

    format: int
    name: str
    judged: bool
    machine: dict[str, Any]
    scenarios: dict[str, ScenarioRecord]


def begin(name: str, machine: Mapping[str, object], *, judged: bool) -> Document:
    """Return an empty report; `judged` is False for quick runs, whose figures mean nothing."""
    return {
        "format": FORMAT,
        "name": name,
        "judged": judged,
        "machine": dict(machine),
        "scenarios": {},
    }


def add(document: Document, scenario: str, outcome: Outcome, seconds: float) -> None:
    """Add a finished scenario to the report, replacing one of the same name."""
    document["scenarios"][scenario] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "gates": [gate_record(r, judged=document["judged"]) for r in outcome.results],
        "figures": dict(outcome.figures),
        "series": [_series_record(s) for s in outcome.series],
    }


def gate_record(result: Result, *, judged: bool) -> GateRecord:
    gate, spread = result.gate, result.spread
    return {
        "name": gate.name,
        "what": gate.what,
        "unit": gate.unit.strip(),
        "must": gate.must,
        "aim": gate.aim,
        "must_text": gate.bound_text(gate.must),
        "aim_text": gate.bound_text(gate.aim),
        "better": gate.better.value,
        "minimum": _number(spread.minimum),
        "median": _number(spread.median),
        "maximum": _number(spread.maximum),
        "passed": result.passed if judged else None,
        "aim_reached": result.reaches_aim if judged else None,
    }


def _number(value: float) -> float | None:
    """Return None for NaN and infinity, which JSON lacks."""
    return value if math.isfinite(value) else None


def _series_record(series: Series) -> SeriesRecord:
    return {
        "plot": series.plot,
        "name": series.name,
        "x": list(series.x),
        "y": list(series.y),
        "unit": series.unit,
    }


def gates(document: Document) -> list[GateRecord]:
    """Return every gate of the run, in the order in which the scenarios ended."""
    return [gate for scenario in document["scenarios"].values() for gate in scenario["gates"]]


def failures(document: Document) -> list[str]:
    """Return the names of the gates that missed their bound; none in a run that is not judged."""
    return [gate["name"] for gate in gates(document) if gate["passed"] is False]


def json_path(name: str, folder: Path = RESULTS) -> Path:
    return folder / f"{name}.json"


def write(document: Document, folder: Path = RESULTS) -> Path:
    """Write the JSON atomically, as `<name>.json`. Return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = json_path(document["name"], folder)
    unfinished = path.with_suffix(".json.unfinished")
    unfinished.write_text(
        json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        encoding="utf-8",
    )
    unfinished.replace(path)
    return path


def read(path: Path) -> Document:
    """Return an existing report. Raise ValueError for a file of another format."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a report of this release: measure again")
    return cast("Document", content)
