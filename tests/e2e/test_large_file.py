"""A file far larger than the server's memory limit."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from support.cli import Sluice
from support.deployments import Deployment
from support.files import sha256_of, write_sparse
from support.server import StandaloneServer

GIB = 1024**3
LIMIT_BYTES = 400 * 1024**2


class MemoryWatch(threading.Thread):
    """A thread that samples the server's resident memory and records the peak."""

    def __init__(self, server: StandaloneServer) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._stopped = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        while not self._stopped.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, self._server.resident_bytes())

    def stop(self) -> int:
        self._stopped.set()
        self.join()
        return self.peak_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "seconds"),
    [
        pytest.param(5 * LIMIT_BYTES // 2, 250, id="a gigabyte"),
        # More than 32 bits can count.
        pytest.param(
            4 * GIB, 800, id="four GiB", marks=[pytest.mark.slow_fault, pytest.mark.timeout(900)]
        ),
    ],
)
def test_large_file_goes_through_with_the_server_below_400_mib(
    deployed: Deployment, tmp_path: Path, size: int, seconds: float
) -> None:
    source = write_sparse(tmp_path / "large.bin", size, seed=3)
    with deployed.serving() as server:
        sluice = Sluice(server.address, tmp_path / "state")
        watch = MemoryWatch(server)
        watch.start()
        # Both end before the test does, so that a hang shows the command's output.
        ends_at = time.monotonic() + seconds
        sluice.ok(
            "upload", str(source), "--drive", "large", "--json", timeout=ends_at - time.monotonic()
        )
        sluice.ok(
            "get",
            "large:large.bin",
            str(tmp_path / "back.bin"),
            timeout=ends_at - time.monotonic(),
        )
        peak = watch.stop()
    assert sha256_of(tmp_path / "back.bin") == sha256_of(source)
    assert peak < LIMIT_BYTES, f"peak resident memory {peak / 1024**2:.0f} MiB"
