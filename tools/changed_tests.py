"""Selection of the tests that a change affects: by their lines, helpers, or imports."""

from __future__ import annotations

import ast
import itertools
import os
import re
import subprocess
from collections.abc import Collection
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Commits within this time before the newest one count as one submission.
SUBMISSION_HOURS = 6
# What every test of the test tooling depends on, or may run.
_TOOLING = ("tools/", "requirements/", "pyproject.toml")


def default_base() -> str:
    """Return the commit that a submission builds on.

    That is SLUICE_CI_BASE where it is set; on a branch, its merge base with origin's main; on main,
    the last commit that is SUBMISSION_HOURS older than the newest.
    """
    if base := os.environ.get("SLUICE_CI_BASE"):
        return base
    head = _git("rev-parse", "HEAD")
    branched = _git("merge-base", "HEAD", "origin/main", check=False)
    if branched not in ("", head):
        return branched
    newest = int(_git("show", "--no-patch", "--format=%ct", "HEAD"))
    before = f"--before={newest - SUBMISSION_HOURS * 3600}"
    return _git("rev-list", "--max-count=1", before, "HEAD") or head


def changed_files(base: str) -> list[str]:
    """Return the files that differ from `base`, including untracked ones."""
    listings = (
        ("diff", "--name-only", base),
        ("ls-files", "--others", "--exclude-standard"),
    )
    return [name for listing in listings for name in _git(*listing).splitlines()]


def is_affected(test: Path, names: Collection[str], root: Path = ROOT) -> bool:
    """Return whether one of these changed files is something that a test of tooling depends on.

    That is what it imports, the conftest.py files above it and what they import, other files than
    Python's beside what is imported, all tools, and the settings of pytest. A test that imports
    any module of the product depends on all of it: it loads scripts, migrations and services by
    name, which no import shows.
    """
    if any(name.startswith(_TOOLING) for name in names):
        return True
    changed = {root / name for name in names}
    sources = tuple(sorted(root.glob("*/*/src")))
    conftests = [folder / "conftest.py" for folder in test.parents if folder.is_relative_to(root)]
    found = set(conftests)
    for file in (test, *(one for one in conftests if one.exists())):
        found |= imported_files(file, (root / "tests", root), sources)
    if changed & found:
        return True
    folders = {file.parent for file in found} - set(root.joinpath("tests", "tooling").parents)
    beside = (one for one in changed if one.suffix != ".py" or not one.exists())
    if any(folders.intersection(one.parents) for one in beside):
        return True
    uses_product = any(_is_in(file, sources) for file in found)
    return uses_product and any(_is_in(file, sources) for file in changed)


def imported_files(
    file: Path, folders: tuple[Path, ...], leaves: tuple[Path, ...] = ()
) -> set[Path]:
    """Return the file and all that it imports from these folders, directly or not.

    Files in `leaves` are found as well, but what they import is not.
    """
    found: set[Path] = set()
    left = {file}
    while left:
        found |= left
        followed = (each for each in left if not _is_in(each, leaves))
        left = {one for each in followed for one in _imports_of(each, folders + leaves)} - found
    return found


@cache
def _imports_of(file: Path, folders: tuple[Path, ...]) -> frozenset[Path]:
    """Return what a file imports itself; parsed once, since many tests import the same helpers."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names, above = [alias.name for alias in node.names], 0
        elif isinstance(node, ast.ImportFrom):
            # What is imported may itself be a module.
            module = f"{node.module}." if node.module else ""
            names = [*filter(None, [node.module]), *(f"{module}{one.name}" for one in node.names)]
            above = node.level
        else:
            continue
        bases = folders if above == 0 else (file.parents[above - 1],)
        for folder, name in itertools.product(bases, names):
            parts = name.split(".")
            # A module runs the packages above it.
            for end in range(0 if above else 1, len(parts) + 1):
                path = folder.joinpath(*parts[:end])
                candidates = (path / "__init__.py", path.with_suffix(".py"))
                found.update(one for one in candidates if one.exists())
    return frozenset(found)


def _is_in(file: Path, folders: tuple[Path, ...]) -> bool:
    return any(file.is_relative_to(folder) for folder in folders)


def changed_since(base: str, root: Path = ROOT) -> list[str]:
    """Return the pytest ids (`path::name`) of the tests that differ from `base`."""
    diff = _git("diff", "--unified=0", "--no-color", "--no-ext-diff", base, "--", "*.py", root=root)
    tests = []
    for path, lines in _changed_lines(diff).items():
        file = root / path
        if file.name.startswith("test_") and file.exists():
            tests += [f"{path}::{name}" for name in _tests_at(file.read_text("utf-8"), lines)]
    return tests


def _changed_lines(diff: str) -> dict[str, set[int]]:
    """Return the new line numbers of each changed file; a removal counts at the line after it."""
    changed: dict[str, set[int]] = {}
    path = ""
    for line in diff.splitlines():
        if line.startswith("+++ "):
            path = line.removeprefix("+++ b/")
        elif hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            changed.setdefault(path, set()).update(range(first, first + max(count, 1)))
    return changed


def _tests_at(source: str, lines: set[int]) -> list[str]:
    """Return the tests at `lines`; all tests, if helpers or constants are there."""
    tests: dict[str, set[int]] = {}
    others: set[int] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            members, prefix = node.body, f"{node.name}::"
        else:
            members, prefix = [node], ""
        for member in members:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and (
                member.name.startswith("test_")
            ):
                tests[prefix + member.name] = _span(member)
            elif not isinstance(member, ast.Import | ast.ImportFrom | ast.Expr):
                others |= _span(member)
    if lines & others:
        return list(tests)
    return [name for name, span in tests.items() if span & lines]


def _span(node: ast.stmt) -> set[int]:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(one.lineno for one in decorators)])
    return set(range(first, (node.end_lineno or node.lineno) + 1))


def _git(*arguments: str, root: Path = ROOT, check: bool = True) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=check
    ).stdout.strip()
