"""Fixtures of the end-to-end tests, which run on every kind of deployment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest

from support.cli import Sluice
from support.deployments import KINDS, Deployment
from support.server import StandaloneServer
from support.shared_services import end_to_end_deployment
from support.wire import CHANNEL_OPTIONS, WireClient


@pytest.fixture(params=KINDS)
def deployed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """Provide backends for a test that starts its own servers."""
    with end_to_end_deployment(request.param, tmp_path) as backends:
        yield backends


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StandaloneServer]:
    """Run one server that is shared by the tests of a module."""
    with (
        end_to_end_deployment(request.param, tmp_path_factory.mktemp("server")) as backends,
        backends.serving() as running,
    ):
        yield running


@pytest.fixture
def sluice(server: StandaloneServer, tmp_path: Path) -> Sluice:
    """Return the `sluice` command for that server."""
    return Sluice(server.address, tmp_path / "state")


@pytest.fixture
async def wire(server: StandaloneServer) -> AsyncIterator[WireClient]:
    """Provide a client of the generated stubs for that server."""
    async with grpc.aio.insecure_channel(server.address, options=CHANNEL_OPTIONS) as channel:
        yield WireClient(channel)
