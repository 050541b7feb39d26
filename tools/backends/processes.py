"""Processes that outlive their parent and are found again by a later run."""

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
# No PID is reused within this time: the kernel counts up through all of them first.
SAME_START_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process by PID and start time: the PID alone may have been reused."""

    pid: int
    started: float

    def find(self) -> psutil.Process | None:
        """Return the process if it still runs and is the marked one."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < SAME_START_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def spawn(
    command: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path
) -> ProcessMark:
    """Start a server in a new session: it does not receive the terminal's Ctrl-C."""
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
    # The server outlives this object, which would otherwise warn about it.
    process.returncode = 0
    return mark


def stop(mark: ProcessMark, seconds: float) -> bool:
    """Send SIGTERM, after `seconds` SIGKILL. Return True if SIGKILL was not necessary.

    Return when the process has ended.
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
    """Return the last lines of a log, indented."""
    if not log.exists():
        return "    (no log)"
    text = log.read_text(encoding="utf-8", errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (empty log)"
