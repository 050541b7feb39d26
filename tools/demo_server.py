"""The server of `make demo`, and the command against it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

BIN: Final = Path(sys.executable).parent
SHORT_TIMEOUT: Final = 60


def sluice(server: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command. Its progress goes to this terminal; its output is returned."""
    shown = " ".join(arguments)
    print(f"\n$ sluice {shown}", flush=True)
    return subprocess.run(
        [BIN / "sluice", "--server", server, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )


@contextmanager
def running_server(data_dir: Path, *arguments: str) -> Iterator[dict[str, str]]:
    """Run `sluice serve` with these arguments; yield its addresses by service.

    Raise `SystemExit` when it does not start, or ends with an error.
    """
    environment = {
        **os.environ,
        "SLUICE_INTAKE_ADDRESS": "127.0.0.1:0",
        "SLUICE_REPOSITORY_ADDRESS": "127.0.0.1:0",
        "SLUICE_METRICS_ADDRESS": "127.0.0.1:0",
        "SLUICE_GATEWAY_ADDRESS": "127.0.0.1:0",
        "SLUICE_OBJECTS_ADDRESS": "127.0.0.1:0",
        "SLUICE_LOG_LEVEL": "warning",
    }
    process = subprocess.Popen(
        [BIN / "sluice", "serve", "--data-dir", str(data_dir), *arguments], env=environment
    )
    try:
        yield _addresses(process, data_dir / "server.json")
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(SHORT_TIMEOUT)
    print(f"server stopped with exit code {code}")
    if code != 0:
        raise SystemExit(1)


def _addresses(process: subprocess.Popen[bytes], announced: Path) -> dict[str, str]:
    deadline = time.monotonic() + SHORT_TIMEOUT
    while not announced.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the server did not start: see its message above")
        time.sleep(0.05)
    addresses: dict[str, str] = json.loads(announced.read_text(encoding="utf-8"))
    return addresses
