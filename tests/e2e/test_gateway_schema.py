"""The gateway against its own OpenAPI document, which schemathesis reads and tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.keyed_server import api_user, keyed_server
from support.server import StandaloneServer

RUN_SECONDS = 280
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@dataclass(frozen=True, slots=True)
class Api:
    """A server that demands tokens, and the token of a user."""

    server: StandaloneServer
    url: str
    token: str

    def tested(self, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Run schemathesis with all its checks on every operation."""
        return subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                *("--config-file", str(CONFIGURATION), "run", f"{self.url}/openapi.json"),
                *("--header", f"Authorization: Bearer {self.token}"),
                *("--checks", "all", "--no-color", "--request-timeout", "20"),
                "--continue-on-failure",
                *options,
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    with keyed_server(tmp_path) as server:
        url = f"http://{server.gateway_address}"
        async with api_user(url) as user:
            yield Api(server, url, user.token)


@pytest.mark.long
async def test_api_keeps_its_document(api: Api, tmp_path: Path) -> None:
    """A small number of examples, the same in each run."""
    options = ("--generation-deterministic", "--max-examples", "3")
    done = await asyncio.to_thread(api.tested, tmp_path, *options, "--phases", "coverage,fuzzing")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "request.failed" not in api.server.log_tail(10_000)


@pytest.mark.long
@pytest.mark.parametrize("examples", [15, pytest.param(60, marks=pytest.mark.slow_fault)])
async def test_api_keeps_its_document_at_random(api: Api, tmp_path: Path, examples: int) -> None:
    """Many examples, and sequences of operations; others with another SLUICE_FUZZ_SEED."""
    seed = os.environ.get("SLUICE_FUZZ_SEED", "1")
    more = ("--max-examples", str(examples), "--generation-database", "none", "--seed", seed)
    done = await asyncio.to_thread(api.tested, tmp_path, *more)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "request.failed" not in api.server.log_tail(10_000)
