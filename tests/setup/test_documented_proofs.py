"""The tests and gates that documents name as proofs exist, and so do the pictures of documents."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

from bench import gates
from support.clone import ROOT
from tools.monitoring import rules

PAGE: Final = ROOT / "docs" / "panel.md"
SECTION: Final = "## What was asked for, and its tests\n"
ROW: Final = re.compile(
    r"^\| (?!item \||-)(?P<item>.+?) \| (?P<proofs>.+?) \| .+ \|$", re.MULTILINE
)
PROOF: Final = re.compile(r"`(?P<file>[\w./-]+\.(?:py|test\.tsx?))::(?P<test>[^`]+)`")
# `test("…"`, `it.each(…)("…"`, `test.each(…)(\n  "…"`: a skipped test is no proof.
VITEST: Final = re.compile(
    r'(?:\b(?:it|test)\(|^(?!.*\.(?:skip|todo)\b).*\)\()\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE
)
GATE: Final = re.compile(r"gate `(?P<gate>[a-z0-9-]+)`")
PICTURE: Final = re.compile(r"!\[[^\]]+\]\((?!https?:)(?P<path>[^)]+)\)")
FEWEST_ITEMS: Final = 102
"""Checkboxes of the eight sections; those of the acceptance come on top."""
GATEWAY_PAGE: Final = ROOT / "docs" / "gateway.md"
GATEWAY_SECTION: Final = "## What was asked for, and its proof\n"
FEWEST_GATEWAY_ITEMS: Final = 48
RUNBOOKS: Final = ROOT / "docs" / "runbooks" / "README.md"
RUNBOOKS_SECTION: Final = "## Followed\n"
ALERT_ROW: Final = re.compile(
    r"^\| `(?P<alert>Sluice\w+)` \| .+ \| (?P<proofs>.+) \|$", re.MULTILINE
)


def file_of(name: str) -> Path:
    """Return the file that the page means: of `web/src`, of `tests/browsers`, or from the root."""
    if not name.endswith(".py"):
        return ROOT / "web" / "src" / name
    return ROOT / name if "/" in name else ROOT / "tests" / "browsers" / name


@cache
def names_in(file: Path) -> frozenset[str]:
    """Return the names of the tests of a file; none if it does not exist."""
    if not file.is_file():
        return frozenset()
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return frozenset(name.replace('\\"', '"') for name in VITEST.findall(text))
    return frozenset(
        node.name
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )


def missing(text: str) -> list[str]:
    """Return what the text names as a proof and is no test."""
    return [
        found[0]
        for found in PROOF.finditer(text)
        if found["test"] not in names_in(file_of(found["file"]))
    ]


def waits_for(proof: re.Match[str], alert: str) -> bool:
    """Return whether a test waits until this alert fires."""
    tree = ast.parse(file_of(proof["file"]).read_text(encoding="utf-8"))
    return any(
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "fires"
        and alert in {each.value for each in call.args if isinstance(each, ast.Constant)}
        for test in tree.body
        if isinstance(test, ast.AsyncFunctionDef) and test.name == proof["test"]
        for call in ast.walk(test)
    )


def proofs(page: Path = PAGE, section: str = SECTION) -> str:
    _, found, text = page.read_text(encoding="utf-8").partition(section)
    assert found
    return text


def gates_of_bench() -> set[str]:
    return {gate.name for group in gates.GATES.values() for gate in group}


def test_proofs_of_the_panel_exist() -> None:
    assert missing(proofs()) == []


def test_every_item_of_the_panel_has_a_proof() -> None:
    rows = ROW.findall(proofs())
    assert len(rows) >= FEWEST_ITEMS
    assert [item for item, cell in rows if PROOF.search(cell) is None] == []


def test_every_item_of_the_gateway_has_a_proof() -> None:
    text = proofs(GATEWAY_PAGE, GATEWAY_SECTION)
    assert missing(text) == []
    assert set(GATE.findall(text)) <= gates_of_bench()
    rows = ROW.findall(text)
    assert len(rows) >= FEWEST_GATEWAY_ITEMS
    unproven = [item for item, cell in rows if not (PROOF.search(cell) or GATE.search(cell))]
    assert unproven == []


def test_every_alert_has_a_followed_runbook() -> None:
    """Each test that the table names injects a fault and waits for the alert."""
    text = proofs(RUNBOOKS, RUNBOOKS_SECTION)
    assert missing(text) == []
    rows = {row["alert"]: list(PROOF.finditer(row["proofs"])) for row in ALERT_ROW.finditer(text)}
    assert sorted(rows) == sorted(alert.name for alert in rules.all_alerts())
    unproven = [
        alert
        for alert, named in rows.items()
        if not named or not all(waits_for(proof, alert) for proof in named)
    ]
    assert unproven == []


def test_unknown_proofs_are_found() -> None:
    """The check itself: lost tests, lost files and skipped tests are no proofs."""
    lost = (
        "`test_webkit.py::test_photos_upload_in_gecko`",
        "`test_gone.py::test_anything`",
        "`lib/engine/reducer.test.ts::sums equal nothing`",
        "`lib/engine/gone.test.ts::anything`",
    )
    known = "`test_webkit.py::test_photos_upload_in_webkit`"
    assert missing(f"{known} {' '.join(lost)}") == list(lost)
    running = 'test("now", () => {});\ntest.each([1])("each", () => {});'
    assert VITEST.findall(running) == ["now", "each"]
    skipped = 'test.skip("not now", () => {});\ntest.skip.each([1])("nor this", () => {});'
    assert VITEST.findall(skipped) == []


def test_pictures_of_documents_exist() -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    shown = [
        document.parent / found["path"]
        for document in documents
        for found in PICTURE.finditer(document.read_text(encoding="utf-8"))
    ]
    assert ROOT / "docs" / "images" / "panel-dark.png" in shown
    assert [path for path in shown if not path.is_file()] == []
