"""`tools/repeat_tests.py`: failure counts, and selection of changed tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.clone import ROOT
from tools import repeat_tests
from tools.changed_tests import changed_since
from tools.repeat_tests import busy_loops, spread

FAILS_IN_ROUND_TWO = """
from pathlib import Path

ROUNDS = Path(__file__).with_name("rounds")


def test_flaky():
    ROUNDS.write_text(ROUNDS.read_text() + "x" if ROUNDS.exists() else "x")
    assert len(ROUNDS.read_text()) != 2


def test_steady():
    pass
"""


def run_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "repeat_tests.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_flaky_test_is_counted_and_fails_the_run(tmp_path: Path) -> None:
    suite = tmp_path / "test_suite.py"
    suite.write_text(FAILS_IN_ROUND_TWO)
    done = run_tool("--rounds", "3", str(suite), "--", "-p", "no:cacheprovider", "-c", "/dev/null")
    assert done.returncode == 1, done.stderr
    assert "failed 1 of 3: " in done.stdout
    assert "2 tests, 3 rounds, 1 of the tests failed at least once" in done.stdout


@pytest.mark.parametrize(("minutes", "rounds"), [(0.5, 1), (3.3, 1), (4.8, 2), (4.9, 3)])
def test_no_round_starts_that_would_end_too_late(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    minutes: float,
    rounds: int,
) -> None:
    now, left = 1_000.0, [100.0, 90.0, 80.0]

    def run_round(*_: object) -> tuple[int, list[str]]:
        nonlocal now
        now += left.pop(0)
        return 1, []

    monkeypatch.setattr(repeat_tests, "run_round", run_round)
    monkeypatch.setattr("time.monotonic", lambda: now)
    assert repeat_tests.main(["--rounds", "3", "--minutes", str(minutes), "some tests"]) == 0
    assert len(left) == 3 - rounds
    out = capsys.readouterr().out
    assert f"1 tests, {rounds} rounds, 0 of the tests" in out
    assert (f"{3 - rounds} left out" in out) is (rounds < 3)


def test_collection_error_fails_the_run(tmp_path: Path) -> None:
    suite = tmp_path / "test_suite.py"
    suite.write_text("import nowhere_to_be_found")
    done = run_tool("--rounds", "3", str(suite), "--", "-p", "no:cacheprovider", "-c", "/dev/null")
    assert done.returncode not in (0, 1)


def test_no_tests_named_is_a_usage_error() -> None:
    done = run_tool("--rounds", "3")
    assert done.returncode == 2
    assert "name tests" in done.stderr


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(3, 3, ["0", "1", "2"]), (3, 9, ["0", "1", "2"]), (10, 4, ["0", "2", "5", "7"]), (0, 4, [])],
)
def test_large_selections_are_thinned_evenly(count: int, most: int, expected: list[str]) -> None:
    assert spread([str(number) for number in range(count)], most) == expected


def test_busy_loops_end_with_their_block() -> None:
    own = psutil.Process()
    before = set(own.children())
    with busy_loops(2):
        running = set(own.children()) - before
        assert len(running) == 2
    assert not any(process.is_running() for process in running)


BEFORE = """import os

LIMIT = 1


def test_a():
    assert LIMIT


class TestGroup:
    def test_b(self):
        assert os
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("assert os", "assert os.name", ["TestGroup::test_b"]),
        ("    assert LIMIT", "    assert LIMIT == 1", ["test_a"]),
        ("LIMIT = 1", "LIMIT = 2", ["test_a", "TestGroup::test_b"]),
        ("import os", "import os, sys", []),
        ("    assert LIMIT\n", "    assert LIMIT\n\n\ndef test_c():\n    pass\n", ["test_c"]),
    ],
    ids=["method", "function", "constant", "import", "added"],
)
def test_changed_lines_select_their_tests(
    old: str, new: str, expected: list[str], tmp_path: Path
) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, timeout=60)

    suite = tmp_path / "test_suite.py"
    suite.write_text(BEFORE)
    (tmp_path / "helper.py").write_text("A = 1\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "before")
    suite.write_text(BEFORE.replace(old, new))
    (tmp_path / "helper.py").write_text("A = 2\n")
    assert changed_since("HEAD", tmp_path) == [f"test_suite.py::{name}" for name in expected]
