"""Fixtures of the end-to-end tests, on the official images instead of servers of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest

from support.cli import Sluice
from support.containers import running_containers, skip_without_docker
from support.server import StandaloneServer
from support.shared_services import SharedServices, shared_services
from support.wire import CHANNEL_OPTIONS, WireClient
from tools.backends.state import LOCATION

# The tests are imported from another folder, where pytest would not rewrite their asserts.
pytest.register_assert_rewrite("e2e")


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory with the services.json of the containers, set for the whole process."""
    skip_without_docker()
    with (
        running_containers(tmp_path_factory.mktemp("services")) as state,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv(LOCATION, str(state.path))
        yield state.path


@pytest.fixture
def deployed(services: Path, tmp_path: Path) -> Iterator[SharedServices]:
    """Backends for a test that starts its servers."""
    with shared_services(tmp_path) as backends:
        yield backends


@pytest.fixture(scope="module")
def server(services: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    """One server shared by the tests of a module that do not disturb it."""
    with (
        shared_services(tmp_path_factory.mktemp("server")) as backends,
        backends.serving() as running,
    ):
        yield running


@pytest.fixture
def sluice(server: StandaloneServer, tmp_path: Path) -> Sluice:
    """The command, configured for that server."""
    return Sluice(server.address, tmp_path / "state")


@pytest.fixture
async def wire(server: StandaloneServer) -> AsyncIterator[WireClient]:
    """A client made of the generated stubs, connected to that server."""
    async with grpc.aio.insecure_channel(server.address, options=CHANNEL_OPTIONS) as channel:
        yield WireClient(channel)
