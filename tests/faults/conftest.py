"""What the tests of faults share: backends, a server that the oracle hears, a line to break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.deployments import KINDS, Deployment, deployment
from support.proxy import FaultProxy
from support.scene import Scene, scene


@pytest.fixture(params=KINDS)
def deployed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """Backends of every kind, for a test that starts its servers itself."""
    with deployment(request.param, tmp_path) as backends:
        yield backends


@pytest.fixture
async def here(deployed: Deployment) -> AsyncIterator[Scene]:
    """A running server on them, before whose intake the oracle listens."""
    async with scene(deployed) as opened:
        yield opened


@pytest.fixture
async def line(here: Scene) -> AsyncIterator[FaultProxy]:
    """Between a client and that intake."""
    host, _, port = here.recorder.address.rpartition(":")
    async with FaultProxy(host, int(port)) as proxy:
        yield proxy
