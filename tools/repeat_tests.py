"""Repeated test runs, optionally under load, with the failure count of each test.

python tools/repeat_tests.py --rounds 3 [--busy 2] [TEST… | --changed-since REF] [-- ARGS]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.changed_tests import changed_since, default_base

# pytest's exit statuses: https://docs.pytest.org/en/stable/reference/exit-codes.html
_OK, _TESTS_FAILED, _NO_TESTS = 0, 1, 5
# Ends with its parent, even if that is killed.
_BUSY_LOOP = """
import os
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Keep `count` processes computing for as long as the block lasts."""
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY_LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run_round(selection: Sequence[str], pytest_arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Run pytest once. Return the number of tests and the names of the failed ones.

    Raises:
        SystemExit: pytest itself failed: a usage error, an error while collecting.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        status = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "--quiet", f"--junitxml={report}"),
                *pytest_arguments,
                *selection,
            ],
            check=False,
        ).returncode
        if status not in (_OK, _TESTS_FAILED, _NO_TESTS):
            raise SystemExit(status)
        cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [
        case for case in cases if case.find("failure") is not None or case.find("error") is not None
    ]
    return len(cases), [f"{case.get('classname')}::{case.get('name')}" for case in failed]


def spread(tests: Sequence[str], most: int) -> list[str]:
    """Return the tests, or `most` of them at even distances."""
    if len(tests) <= most:
        return list(tests)
    return [tests[index * len(tests) // most] for index in range(most)]


def repeat(options: argparse.Namespace, selection: Sequence[str], more: Sequence[str]) -> int:
    """Run the rounds, print the counts and return the exit status."""
    failures: Counter[str] = Counter()
    started, rounds, ran, longest = time.monotonic(), 0, 0, 0.0
    with busy_loops(options.busy):
        for number in range(1, options.rounds + 1):
            begun = time.monotonic()
            if rounds and begun - started + longest > options.minutes * 60:
                left_out = options.rounds - rounds
                print(f"no further round fits in {options.minutes:g} minutes: {left_out} left out")
                break
            print(f"round {number} of {options.rounds}", flush=True)
            ran, failed = run_round(selection, more)
            longest = max(longest, time.monotonic() - begun)
            failures.update(failed)
            rounds = number
    for name, count in failures.most_common():
        print(f"failed {count} of {rounds}: {name}")
    print(f"{ran} tests, {rounds} rounds, {len(failures)} of the tests failed at least once")
    return 1 if failures else 0


def main(arguments: Sequence[str]) -> int:
    """Run the command; arguments after `--` go to pytest. Called by `make test-repeat` and CI.

    Return 0 when no test failed in any round, 1 when one did; exit with 2 for a usage error.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("paths", nargs="*", help="files, folders or ids of tests")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside them")
    parser.add_argument(
        "--minutes", type=float, default=60, help="start no round that would end later"
    )
    parser.add_argument(
        "--changed-since",
        metavar="REV",
        help="the tests that changed since REV; `auto`: since the branch or the last submission",
    )
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parser.add_argument(
        "--most",
        type=int,
        default=sys.maxsize,
        help="of more changed tests than these take a part (a rename of everything changes all)",
    )
    options = parser.parse_args(arguments[:end])
    selection = list(options.paths)
    if options.changed_since:
        base = default_base() if options.changed_since == "auto" else options.changed_since
        selection += changed_since(base)
        changed = len(selection)
        selection = spread(selection, options.most)
        print(f"{changed} tests changed since {base}; {len(selection)} of them, evenly spread")
        if not selection:
            return 0
    if not selection:
        parser.error("name tests, or --changed-since REV")
    return repeat(options, selection, arguments[end + 1 :])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
