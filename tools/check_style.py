"""Checks of the language standard in CONTRIBUTING.md. Run by `make lint`.

python tools/check_style.py [PATH…]
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
MAX_TEST_NAME_CHARS: Final = 60
MAX_DOCSTRING_LINES: Final = 3
MAX_SUBJECT_CHARS: Final = 72
MAX_METHODS: Final = 20
MAX_FILE_LINES: Final = 400
PAGE_SUFFIXES: Final = ("ts", "tsx", "css", "js")
"""Of the sources in `web/`, whose other rules eslint checks."""
GENERATED: Final = ("libs/protos/src/", "web/src/lib/api/schema.d.ts")
SIZE_REASON: Final = "# Size: "
"""Begins the comment that justifies a larger class, or a larger file if it is in it."""
# The first commit with this limit; older subjects stay as they are.
SUBJECTS_SINCE: Final = "247c06c"

_LEVELS: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
_LOGGERS: Final = frozenset({"_log", "log", "logger"})
_EVENT: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


def module_problems(path: Path) -> Iterator[str]:
    """Yield the problems of one Python file as `path:line: problem`."""
    text = path.read_text(encoding="utf-8")
    if not text.strip():
        return
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    tree = ast.parse(text)
    docstring = ast.get_docstring(tree)
    if docstring is None:
        yield f"{name}:1: no module docstring; say in one line what the module is"
    elif (lines := docstring.count("\n") + 1) > MAX_DOCSTRING_LINES:
        yield (
            f"{name}:1: module docstring of {lines} lines, at most {MAX_DOCSTRING_LINES}; move the"
            " rest to the class or function that it explains"
        )
    for node in ast.walk(tree):
        yield from (f"{name}:{problem}" for problem in _node_problems(node))
    yield from (f"{name}:{problem}" for problem in _size_problems(text, tree))


def _node_problems(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        length = len(node.name)
        if node.name.startswith("test_") and length > MAX_TEST_NAME_CHARS:
            yield (
                f"{node.lineno}: test name of {length} characters, at most {MAX_TEST_NAME_CHARS};"
                " move the detail to its docstring"
            )
    elif isinstance(node, ast.Call):
        event = _log_event(node)
        if event is not None and not _EVENT.fullmatch(event):
            yield f"{node.lineno}: log event {event!r} is not of the form object.past_participle"


def _size_problems(text: str, tree: ast.Module) -> Iterator[str]:
    """Yield a file and classes that are too large and do not say why."""
    lines = text.splitlines()
    if len(lines) > MAX_FILE_LINES and not any(line.startswith(SIZE_REASON) for line in lines):
        yield (
            f"1: file of {len(lines)} lines, at most {MAX_FILE_LINES};"
            f" split it, or say why not in a comment {SIZE_REASON!r}"
        )
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        methods = sum(isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) for one in node.body)
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        has_reason = first > 1 and lines[first - 2].lstrip().startswith(SIZE_REASON)
        if methods > MAX_METHODS and not has_reason:
            yield (
                f"{node.lineno}: class {node.name} of {methods} methods, at most {MAX_METHODS};"
                f" split it, or say why not in a comment {SIZE_REASON!r} above it"
            )


def _log_event(call: ast.Call) -> str | None:
    """Return the event of a call such as `_log.info("upload.aborted")`; None for other calls."""
    match call:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id=logger), attr=level),
            args=[ast.Constant(value=str(event)), *_],
        ) if logger in _LOGGERS and level in _LEVELS:
            return event
    return None


def subject_problems(subjects: str) -> Iterator[str]:
    """Yield the commits whose subject is too long; takes lines of `git log --format="%h %s"`."""
    for line in subjects.splitlines():
        commit, _, subject = line.partition(" ")
        if len(subject) > MAX_SUBJECT_CHARS and not subject.startswith("Merge "):
            yield f"commit {commit}: subject of {len(subject)} characters: {subject}"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def _branch_subjects() -> str:
    """Return the commits since the limit holds; nothing in a clone that lacks that history."""
    return _git("log", "--format=%h %s", f"{SUBJECTS_SINCE}..HEAD").stdout


def size_problem(path: Path) -> Iterator[str]:
    """Yield the problem of a source of the pages: it is too large. The rest is its linter's."""
    lines = path.read_text(encoding="utf-8").count("\n")
    if lines > MAX_FILE_LINES:
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        yield f"{name}:1: file of {lines} lines, at most {MAX_FILE_LINES}; split it"


def _tracked_files(*patterns: str) -> list[Path]:
    """Return the files by pattern that a commit has or would take, without generated ones."""
    listed = _git("ls-files", "--cached", "--others", "--exclude-standard", *patterns).stdout
    return [
        ROOT / name
        for name in listed.splitlines()
        if not name.startswith(GENERATED) and (ROOT / name).is_file()
    ]


def main(arguments: list[str]) -> int:
    """Print every problem; return 1 if there is one."""
    files = [
        file.resolve()
        for name in arguments
        for file in (Path(name).rglob("*.py") if Path(name).is_dir() else [Path(name)])
    ]
    modules = files or _tracked_files("*.py")
    problems = [problem for file in modules for problem in module_problems(file)]
    if not arguments:
        pages = _tracked_files(*(f"web/*.{suffix}" for suffix in PAGE_SUFFIXES))
        problems += [problem for file in pages for problem in size_problem(file)]
        problems += subject_problems(_branch_subjects())
    for problem in problems:
        print(problem)
    if problems:
        print(f"{len(problems)} problems with the language standard", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
