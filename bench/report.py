"""The report of a run: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.gates import Result

RESULTS = Path(__file__).parent / "results"


def table(results: Sequence[Result], *, judged: bool) -> str:
    """One line per gate: median [min … max], the bounds, the verdict."""
    rows = [("gate", "median [min … max]", "must", "aim", "verdict", "what")]
    rows += [
        (
            r.gate.name,
            r.spread.text() + r.gate.unit,
            r.gate.bound_text(r.gate.must),
            r.gate.bound_text(r.gate.aim),
            r.verdict if judged else "not judged",
            r.gate.what,
        )
        for r in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def document(
    results: Sequence[Result],
    figures: Mapping[str, object],
    machine: Mapping[str, object],
    *,
    judged: bool,
) -> dict[str, object]:
    """The same as data; `judged` is False for quick runs, whose figures mean nothing."""
    return {
        "machine": dict(machine),
        "judged": judged,
        "gates": [
            {
                "name": r.gate.name,
                "what": r.gate.what,
                "unit": r.gate.unit.strip(),
                "must": r.gate.must,
                "aim": r.gate.aim,
                "better": r.gate.better.value,
                "minimum": r.spread.minimum,
                "median": r.spread.median,
                "maximum": r.spread.maximum,
                "passed": r.passed if judged else None,
            }
            for r in results
        ],
        "figures": dict(figures),
    }


def write(name: str, report: Mapping[str, object]) -> Path:
    """Write the JSON report below bench/results/ and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
