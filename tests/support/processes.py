"""`sluice-intake`, `sluice-repository`, `sluice-processor`, `sluice-gateway` as processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from support.environment import process_environment
from support.redis_server import free_port

START_SECONDS = 120.0
STOP_SECONDS = 40.0
_LISTENING = {"sluice_intake": "INTAKE", "sluice_gateway": "GATEWAY"}


class ServiceProcess:
    """One service; a context manager. Its ports stay the same over restarts.

    Args:
        module: module for `python -m`: "sluice_intake", "sluice_repository", "sluice_gateway" or
            "sluice_processor", which only listens on its metrics address.
        folder: location of its log and ready file.
        arguments: command-line arguments.
    """

    def __init__(
        self, module: str, folder: Path, settings: Mapping[str, str], *arguments: str
    ) -> None:
        self._module = module
        self._arguments = arguments
        self._ready = folder / f"{module}-{free_port()}.ready"
        self.log = self._ready.with_suffix(".log")
        self.address = f"127.0.0.1:{free_port()}"
        self.metrics_address = f"127.0.0.1:{free_port()}"
        listening = _LISTENING.get(module, "REPOSITORY")
        self._listening = f"SLUICE_{listening}_ADDRESS"
        self._settings = {
            self._listening: self.address,
            "SLUICE_METRICS_ADDRESS": self.metrics_address,
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the service is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def add_settings(self, settings: Mapping[str, str]) -> None:
        """Add settings that depend on the address; call this before the start."""
        self._settings = {**self._settings, **settings}

    def listen_like(self, stopped: ServiceProcess) -> None:
        """Use the address of another service that has stopped; call this before the start."""
        self.address = stopped.address
        self._settings = {**self._settings, self._listening: self.address}

    def start(self) -> None:
        """Start and wait until it takes requests."""
        self._ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", self._module),
                    *("--ready-file", str(self._ready)),
                    *self._arguments,
                ],
                env=process_environment(self._settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()  # otherwise it keeps running during other tests
                raise AssertionError(f"{self._module} did not start:\n{self.log_tail()}")
            time.sleep(0.02)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Send SIGKILL and wait for the exit."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def wait(self, seconds: float) -> int:
        """Wait for a service that is about to exit, and return its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def log_tail(self, lines: int = 40) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the service if it runs; fail the test if it does not stop in time."""
        if self._process is None or self._process.poll() is not None:
            return
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
            raise
