"""Coverage of the rules of docs/protocol.md by tests marked `@pytest.mark.rule(NUMBER)`. Only the
sources are read, so that the result does not depend on the selection of tests.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ["tests", "libs/*/tests", "services/*/tests"]
RACES = "test_races_"
FORCED_RACES = {1, 2, 5, 8, 16, 18, 19}
"""What these rules forbid happens only when two things meet: a test has to make them meet."""


@dataclass(frozen=True, slots=True)
class Named:
    """A test, or a class of tests, with the rules that it names."""

    file: Path
    name: str
    rules: frozenset[int]

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}::{self.name}"


def rules_of_the_protocol() -> set[int]:
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    return {int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)}


def numbers_of(decorator: ast.expr) -> frozenset[int] | None:
    """Return the numbers of a `pytest.mark.rule(…)`; None for any other decorator."""
    match decorator:
        case ast.Call(func=ast.Attribute(attr="rule", value=ast.Attribute(attr="mark"))):
            return frozenset(ast.literal_eval(argument) for argument in decorator.args)
    return None


def marked_in(file: Path) -> Iterator[Named]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if not node.name.startswith(("test_", "Test")):
            continue
        marked = [numbers_of(decorator) for decorator in node.decorator_list]
        yield Named(file, node.name, frozenset().union(*(one for one in marked if one)))


@pytest.fixture(scope="module")
def named() -> list[Named]:
    files = {
        file for places in TESTS for place in ROOT.glob(places) for file in place.rglob("test_*.py")
    }
    return [test for file in sorted(files) for test in marked_in(file)]


def test_the_rules_are_numbered_without_a_gap() -> None:
    rules = rules_of_the_protocol()
    assert rules
    assert rules == set(range(1, len(rules) + 1))


def test_every_rule_has_a_test_that_names_it(named: list[Named]) -> None:
    tested = {number for test in named for number in test.rules}
    assert sorted(rules_of_the_protocol() - tested) == []


def test_every_name_is_that_of_a_rule(named: list[Named]) -> None:
    rules = rules_of_the_protocol()
    assert [f"{test}: {sorted(test.rules - rules)}" for test in named if test.rules - rules] == []


def test_a_test_with_a_rule_in_its_name_is_marked_with_it(named: list[Named]) -> None:
    unmarked = [
        str(test)
        for test in named
        if (said := re.match(r"test_rule_(\d+)_", test.name)) and int(said[1]) not in test.rules
    ]
    assert unmarked == []


def test_the_races_behind_the_rules_are_forced(named: list[Named]) -> None:
    forced = {n for test in named if test.file.name.startswith(RACES) for n in test.rules}
    assert sorted(FORCED_RACES - forced) == []
