"""The wait for a server process that a test has started."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_PAUSE_SECONDS = 0.1
_LOG_CHARACTERS = 4000


def wait_for_start(
    process: subprocess.Popen[bytes],
    is_ready: Callable[[], bool],
    log: Path,
    seconds: float,
) -> None:
    """Wait until the server is ready.

    Raise RuntimeError with the end of its log as soon as it has ended, and after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        was_ready = is_ready()
        # Asked last: a server whose port another process has answers by that one, and ends.
        code = process.poll()
        if code is None and was_ready:
            return
        if code is None and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
            continue
        what = f"is not ready after {seconds:g} s" if code is None else f"ended with code {code}"
        end = log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARACTERS:]
        raise RuntimeError(f"process {process.pid} {what}:\n{end}")
