"""`tools/check_style.py`: each rule accepts good style and reports bad style."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.check_style import (
    MAX_DOCSTRING_LINES,
    MAX_FILE_LINES,
    MAX_METHODS,
    MAX_SUBJECT_CHARS,
    MAX_TEST_NAME_CHARS,
    ROOT,
    SIZE_REASON,
    main,
    module_problems,
    size_problem,
    subject_problems,
)


def problems_of(folder: Path, text: str) -> list[str]:
    file = folder / "module.py"
    file.write_text(text, encoding="utf-8")
    return [problem.removeprefix(f"{file}:") for problem in module_problems(file)]


def docstring_of(lines: int) -> str:
    return '"""' + "\n".join(["One line."] * lines) + '"""\n'


def test_module_docstring_is_required(tmp_path: Path) -> None:
    assert problems_of(tmp_path, '"""A module."""\nX = 1\n') == []
    (problem,) = problems_of(tmp_path, "X = 1\n")
    assert problem.startswith("1: no module docstring")


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_empty_module_needs_no_docstring(tmp_path: Path, text: str) -> None:
    assert problems_of(tmp_path, text) == []


def test_module_docstring_is_short(tmp_path: Path) -> None:
    assert problems_of(tmp_path, docstring_of(MAX_DOCSTRING_LINES)) == []
    (problem,) = problems_of(tmp_path, docstring_of(MAX_DOCSTRING_LINES + 1))
    assert problem.startswith(f"1: module docstring of {MAX_DOCSTRING_LINES + 1} lines")


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_test_name_is_short(tmp_path: Path, keyword: str) -> None:
    """In classes as well; functions that are not tests may have longer names."""
    longest = "test_" + "x" * (MAX_TEST_NAME_CHARS - len("test_"))
    text = '"""A module."""\nclass TestIt:\n    {} {}():\n        """D."""\n'
    assert problems_of(tmp_path, text.format(keyword, longest)) == []
    assert problems_of(tmp_path, text.format(keyword, "a" + longest)) == []
    (problem,) = problems_of(tmp_path, text.format(keyword, longest + "x"))
    assert problem.startswith(f"3: test name of {MAX_TEST_NAME_CHARS + 1} characters")


def test_large_class_needs_a_reason(tmp_path: Path) -> None:
    """The reason is above the class; a decorator may be between."""

    def text(methods: int, reason: str = "") -> str:
        body = "".join(f"    def m{number}(self): ...\n" for number in range(methods))
        return f'"""A module."""\n{reason}@final\nclass Large:\n{body}'

    assert problems_of(tmp_path, text(MAX_METHODS)) == []
    assert problems_of(tmp_path, text(MAX_METHODS + 1, f"{SIZE_REASON}a port.\n")) == []
    (problem,) = problems_of(tmp_path, text(MAX_METHODS + 1))
    assert problem.startswith(f"3: class Large of {MAX_METHODS + 1} methods")


@pytest.mark.parametrize("place", ["src", "tests", "bench"])
def test_large_file_needs_a_reason(tmp_path: Path, place: str) -> None:
    """Wherever it is: in the source of a distribution, in tests or in the benchmark."""
    folder = tmp_path / place
    folder.mkdir()
    longest = '"""A module."""\n' + "X = 1\n" * (MAX_FILE_LINES - 1)
    assert problems_of(folder, longest) == []
    assert problems_of(folder, f"{longest}{SIZE_REASON}a table.\n") == []
    (problem,) = problems_of(folder, longest + "X = 1\n")
    assert problem.startswith(f"1: file of {MAX_FILE_LINES + 1} lines")


@pytest.mark.parametrize("event", ["upload.aborted", "upload.abort_failed", "a.b.c2_d"])
@pytest.mark.parametrize("call", ["_log.info", "log.warning", "logger.exception"])
def test_dotted_log_event_is_accepted(tmp_path: Path, call: str, event: str) -> None:
    assert problems_of(tmp_path, f'"""A module."""\n{call}("{event}", reason="X")\n') == []


@pytest.mark.parametrize("event", ["aborted", "Upload.aborted", "upload aborted", "upload.", "%s"])
@pytest.mark.parametrize("call", ["_log.debug", "log.error", "logger.critical"])
def test_undotted_log_event_is_reported(tmp_path: Path, call: str, event: str) -> None:
    (problem,) = problems_of(tmp_path, f'"""A module."""\n{call}("{event}", reason="X")\n')
    assert problem == f"2: log event {event!r} is not of the form object.past_participle"


@pytest.mark.parametrize(
    "call",
    ['print("aborted")', "_log.info(event)", '_log.bind("aborted")', 'other.info("it")'],
)
def test_other_call_is_not_a_log_event(tmp_path: Path, call: str) -> None:
    assert problems_of(tmp_path, f'"""A module."""\n{call}\n') == []


def test_commit_subject_is_short() -> None:
    longest = "x" * MAX_SUBJECT_CHARS
    assert list(subject_problems(f"abc1234 {longest}\n")) == []
    (problem,) = subject_problems(f"abc1234 {longest}\ndef5678 {longest}x\n")
    assert problem.startswith(f"commit def5678: subject of {MAX_SUBJECT_CHARS + 1} characters")


def test_merge_subject_may_be_long() -> None:
    assert list(subject_problems(f"abc1234 Merge {'x' * MAX_SUBJECT_CHARS}\n")) == []


def test_problem_in_a_folder_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "below" / "bad.py"
    bad.parent.mkdir()
    good.write_text('"""A module."""\n', encoding="utf-8")
    bad.write_text("X = 1\n", encoding="utf-8")
    assert main([str(good)]) == 0
    assert capsys.readouterr().out == ""
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith(f"{bad}:1: no module docstring")


def test_tool_runs_as_a_script() -> None:
    """As `make lint` runs it; problems are named relative to the root."""
    tool = str(ROOT / "tools" / "check_style.py")
    done = subprocess.run(
        [sys.executable, tool, tool], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["a.ts", "a.tsx", "a.css"])
def test_long_source_of_pages_is_reported(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("a\n" * MAX_FILE_LINES, encoding="utf-8")
    assert list(size_problem(file)) == []
    file.write_text("a\n" * (MAX_FILE_LINES + 1), encoding="utf-8")
    assert list(size_problem(file)) == [f"{file}:1: file of 401 lines, at most 400; split it"]
