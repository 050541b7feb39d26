"""Start the processes of a scenario, and see what they use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

READY_SECONDS = 30.0
STOP_SECONDS = 15.0
_KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": str(1024**3),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 1024**2),
}
"""What the services set for themselves (sluice_common.malloc), for the load generators."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used between two moments."""

    cpu_seconds: float
    context_switches: int
    resident_bytes: int


class Server:
    """A server process that announced its address."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.address = address
        self._process = psutil.Process(process.pid)
        self._before = self._counters()

    def _counters(self) -> tuple[float, int]:
        times, switches = self._process.cpu_times(), self._process.num_ctx_switches()
        return times.user + times.system, switches.voluntary + switches.involuntary

    def usage(self) -> Usage:
        """What was used since the last call."""
        now = self._counters()
        before, self._before = self._before, now
        return Usage(now[0] - before[0], now[1] - before[1], self._process.memory_info().rss)


def _await_address(process: subprocess.Popen[str], ready: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} at start")
        if ready.exists() and (text := ready.read_text(encoding="utf-8")).endswith("\n"):
            return text.strip()
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} was not ready after {READY_SECONDS:g} s")


@contextmanager
def server(arguments: list[str], environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a Python program that writes its address to the file named by `--ready-file`."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as scratch:
        ready = Path(scratch) / "ready"
        process = subprocess.Popen(
            [sys.executable, *arguments, "--ready-file", str(ready)],
            env={**os.environ, **(environment or {})},
            text=True,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield Server(process, _await_address(process, ready))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def load(module: str, *arguments: str) -> dict[str, Any]:
    """Run a load generator to its end and return the JSON line that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **_KEEP_PAGES},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
