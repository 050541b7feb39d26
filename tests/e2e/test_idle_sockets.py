"""Thousands of idle WebSockets on one replica of the gateway."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sluice_common.settings import load_settings
from sluice_gateway.auth.access_tokens import AccessTokens, TokenTerms
from sluice_gateway.auth.key_file import open_signing_keys
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.metrics import AccountMetrics
from sluice_gateway.settings import DEFAULT_AUDIENCE, rotation_policy
from support.environment import process_environment
from support.processes import ServiceProcess
from support.waiting import metric, scrape

SOCKETS = int(os.environ.get("SLUICE_TEST_IDLE_SOCKETS", "2000"))
SESSIONS = "sluice_gateway_live_sessions"
ENDED = "sluice_gateway_live_ended_total"
NOT_FOUND = "JOB_NOT_FOUND"
"""How the session ends that waits for the snapshots."""
KIB = 1024
BOUND_KIB = 64
"""Of resident memory for a session."""
HEALTH_SECONDS = 1.0
SPARE_FILES = 500


@contextmanager
def many_files(needed: int) -> Iterator[None]:
    """Let the processes that start meanwhile have so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= needed, f"the hard limit of open files is {hard}: raise it to {needed}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def tokens_of(gateway: ServiceProcess, keys: Path, users: int) -> list[str]:
    """Sign tokens with the gateway's keys: to register so many users takes minutes."""
    settings = load_settings()
    async with open_signing_keys(keys, rotation_policy(settings), AccountMetrics()) as signing:
        terms = TokenTerms(
            f"http://{gateway.address}", DEFAULT_AUDIENCE, settings.auth.tenant_claim, 3600.0
        )
        issuer = AccessTokens(signing, terms)
        return [issuer.issue(f"user-{number}") for number in range(users)]


@dataclass
class Clients:
    """The process with the sockets."""

    process: subprocess.Popen[str]

    def ask(self, line: str) -> int:
        """Send a line; return the number that answers it."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{line}\n")
        stdin.flush()
        return int(stdout.readline())


@contextmanager
def clients_of(gateway: ServiceProcess) -> Iterator[Clients]:
    """Run `support.idle_sockets`; kill it at the end."""
    host, _, port = gateway.address.rpartition(":")
    process = subprocess.Popen(
        [sys.executable, "-m", "support.idle_sockets", host, port, str(SOCKETS)],
        env=process_environment({"PYTHONPATH": str(Path(__file__).resolve().parents[1])}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Clients(process)
        finally:
            process.kill()


def health_seconds(gateway: ServiceProcess, *paths: str) -> float:
    """Return how long the probe took that took longest; each has to be 200."""
    longest = 0.0
    for path in paths:
        began = time.monotonic()
        with urllib.request.urlopen(f"http://{gateway.address}{path}", timeout=30) as answer:
            assert answer.status == 200
        longest = max(longest, time.monotonic() - began)
    return longest


@pytest.mark.slow
@pytest.mark.measures
def test_idle_sockets_take_bounded_memory(tmp_path: Path) -> None:
    """2,000 sockets; 10,000, as docs/live.md states them, with SLUICE_TEST_IDLE_SOCKETS=10000.

    It takes as long as their handshakes: of 10,000 about a minute.
    """
    keys = tmp_path / "keys.json"
    settings = {
        "SLUICE_DATA_DIR": str(tmp_path / "data"),
        "SLUICE_GATEWAY__KEYS_FILE": str(keys),
        "SLUICE_AUTH__MODE": "jwt",
        "SLUICE_AUTH__AUDIENCE": DEFAULT_AUDIENCE,
    }
    gateway = ServiceProcess("sluice_gateway", tmp_path, settings)
    gateway.add_settings({"SLUICE_AUTH__ISSUER": f"http://{gateway.address}"})
    with many_files(SOCKETS + SPARE_FILES), gateway:
        users = SOCKETS // LiveOptions().max_sessions_per_user + 1
        tokens = asyncio.run(tokens_of(gateway, keys, users))
        process = psutil.Process(gateway.pid)
        before = process.memory_info().rss
        with clients_of(gateway) as clients:
            assert clients.ask(json.dumps(tokens)) == SOCKETS
            ended = asyncio.run(metric(gateway.metrics_address, ENDED))
            refused = asyncio.run(metric(gateway.metrics_address, ENDED, reason=NOT_FOUND))
            assert ended == refused, scrape(gateway.metrics_address)
            sessions = asyncio.run(metric(gateway.metrics_address, SESSIONS))
            assert sessions == SOCKETS + 1 - ended
            each = (process.memory_info().rss - before) / SOCKETS
            health = health_seconds(gateway, "/healthz", "/readyz")
            sys.stdout.write(f"{each / KIB:.1f} KiB a session, probes in {health:.3f} s\n")
            assert each <= BOUND_KIB * KIB
            assert health <= HEALTH_SECONDS
            assert clients.ask("") == SOCKETS  # all are still open
        assert gateway.stop() == 0
