"""A standalone server process that can be killed and restarted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from support.environment import process_environment

START_SECONDS = 120.0
STOP_SECONDS = 40.0


class StandaloneServer:
    """`sluice serve` on a data directory; its log is beside the directory.

    Its addresses stay the same over restarts, so that clients can reconnect.
    """

    def __init__(
        self,
        data_dir: Path,
        environment: Mapping[str, str] | None = None,
        *,
        python: str = sys.executable,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.data_dir = data_dir
        self._arguments = arguments
        self._python = python
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.address = "127.0.0.1:0"
        self.repository_address = "127.0.0.1:0"
        self.metrics_address = "127.0.0.1:0"
        self.gateway_address = "127.0.0.1:0"
        self.objects_address = "127.0.0.1:0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start and wait until the server accepts requests."""
        announced = self.data_dir / "server.json"
        announced.unlink(missing_ok=True)
        environment = process_environment(
            {
                "SLUICE_INTAKE_ADDRESS": self.address,
                "SLUICE_REPOSITORY_ADDRESS": self.repository_address,
                "SLUICE_METRICS_ADDRESS": self.metrics_address,
                "SLUICE_GATEWAY_ADDRESS": self.gateway_address,
                "SLUICE_OBJECTS_ADDRESS": self.objects_address,
                **self._environment,
            }
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._python,
                    "-m",
                    "sluice_standalone",
                    "--data-dir",
                    str(self.data_dir),
                    *self._arguments,
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not announced.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()  # otherwise it keeps running during other tests
                raise AssertionError(f"the server did not start:\n{self.log_tail()}")
            time.sleep(0.02)
        text = announced.read_text(encoding="utf-8").replace("https://", "")  # with TLS
        addresses = json.loads(text)
        self.address = addresses["intake"]
        self.repository_address = addresses["repository"]
        self.metrics_address = addresses["metrics"]
        # None of both without a catalogue.
        self.gateway_address = addresses.get("gateway", self.gateway_address)
        self.objects_address = addresses.get("objects", self.objects_address)

    def kill(self) -> None:
        """Send SIGKILL and wait for the exit."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)

    def close(self) -> None:
        """Stop the server if it runs; fail the test if it does not stop in time."""
        if self._process is None or self._process.poll() is not None:
            return
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    def log_tail(self, lines: int = 40) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


@contextmanager
def standalone(
    data_dir: Path, environment: Mapping[str, str] | None = None
) -> Iterator[StandaloneServer]:
    """Run a server inside the block; stop it however the test ends."""
    server = StandaloneServer(data_dir, environment)
    server.start()
    try:
        yield server
    finally:
        server.close()
