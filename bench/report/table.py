"""The gates of a run as a text table. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.document import GateRecord

HEADINGS = ("gate", "median [min … max]", "must", "aim", "verdict", "what")


def table(gates: Sequence[GateRecord]) -> str:
    """Return one line per gate: median [min … max], the bounds, the verdict."""
    rows = [HEADINGS, *map(row, gates)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    )


def row(gate: GateRecord) -> tuple[str, ...]:
    """Return the cells under `HEADINGS`."""
    return (
        gate["name"],
        spread_text(gate),
        gate["must_text"],
        gate["aim_text"],
        verdict(gate),
        gate["what"],
    )


def spread_text(gate: GateRecord) -> str:
    """Return `median [minimum … maximum] unit`."""
    middle, low, high = gate["median"], gate["minimum"], gate["maximum"]
    if middle is None or low is None or high is None:
        return "no number"
    digits = _digits(middle)
    unit = f" {gate['unit']}" if gate["unit"] else ""
    return f"{middle:.{digits}f} [{low:.{digits}f} … {high:.{digits}f}]{unit}"


def _digits(value: float) -> int:
    """Return the decimals for three significant figures, two at most."""
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2


def verdict(gate: GateRecord) -> str:
    if gate["passed"] is None:
        return "not judged"
    if not gate["passed"]:
        return "FAIL"
    if gate["aim_reached"]:
        return "pass, aim reached"
    return "aim missed" if gate["must"] is None else "pass"
