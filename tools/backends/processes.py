"""Processes that outlive the one which started them, and are found again by the next."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

KILL_SECONDS: Final = 10.0
# A number is not given again within this time: the kernel counts up through all of them first.
SAME_START_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process by number and time of start: a number alone may by now be somebody else's."""

    pid: int
    started: float

    def find(self) -> psutil.Process | None:
        """The process, if it is still the one that was marked and still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < SAME_START_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def spawn(
    command: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path
) -> ProcessMark:
    """Start a server in a session of its own: Ctrl-C in the terminal is not for it."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    mark = ProcessMark(process.pid, psutil.Process(process.pid).create_time())
    # The server is meant to outlive this object, which would otherwise warn about that.
    process.returncode = 0
    return mark


def stop(mark: ProcessMark, seconds: float) -> bool:
    """SIGTERM, after `seconds` SIGKILL; True if that was not necessary.

    Returns when the process is gone.
    """
    process = mark.find()
    if process is None:
        return True
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(seconds)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(KILL_SECONDS)
            return False
    return True


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, indented."""
    if not log.exists():
        return "    (no log)"
    text = log.read_text(encoding="utf-8", errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (empty log)"
