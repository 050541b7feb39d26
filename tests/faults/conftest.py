"""Fixtures of the fault tests: backends, a recorded server and a fault proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.deployments import KINDS, Deployment, Services, deployment
from support.proxy import FaultProxy
from support.redis_server import RedisServer
from support.scene import Scene, scene


@pytest.fixture(params=KINDS)
def deployed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """Provide backends of every kind for a test that starts its own servers."""
    with deployment(request.param, tmp_path) as backends:
        yield backends


@pytest.fixture
async def here(deployed: Deployment) -> AsyncIterator[Scene]:
    """Run a server on them whose intake traffic the oracle records."""
    async with scene(deployed) as opened:
        yield opened


@pytest.fixture
async def line(here: Scene) -> AsyncIterator[FaultProxy]:
    """Run a fault proxy between a client and that intake."""
    host, _, port = here.recorder.address.rpartition(":")
    async with FaultProxy(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with RedisServer() as redis:
        yield Services(tmp_path, redis)
