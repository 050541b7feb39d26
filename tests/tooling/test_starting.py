"""The wait for a server process of the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.starting import wait_for_start


def test_end_of_the_process_ends_the_wait(tmp_path: Path) -> None:
    """At once, with its log: the time limit is far away."""
    log = tmp_path / "log"
    program = "import sys; sys.exit('no port is free')"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", program], stderr=output)
    with pytest.raises(RuntimeError, match=r"(?s)ended with code 1.*no port is free"):
        wait_for_start(process, lambda: False, log, 600.0)


def test_process_that_has_ended_is_not_ready(tmp_path: Path) -> None:
    """Even if something answers: another process has its port."""
    log = tmp_path / "log"
    log.touch()
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    process.wait()
    with pytest.raises(RuntimeError, match="ended with code 1"):
        wait_for_start(process, lambda: True, log, 600.0)


def test_wait_ends_with_the_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with process:
        with pytest.raises(RuntimeError, match=r"is not ready after 0 s"):
            wait_for_start(process, lambda: False, log, 0.0)
        answers = iter([False, True])
        wait_for_start(process, lambda: next(answers), log, 600.0)
        process.kill()
