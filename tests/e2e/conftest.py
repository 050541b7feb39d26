"""Servers and commands for the end-to-end tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest

from support.cli import Sluice
from support.server import StandaloneServer, standalone
from support.wire import CHANNEL_OPTIONS, WireClient


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    """One server for the tests of a module that do not disturb it."""
    with standalone(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def sluice(server: StandaloneServer, tmp_path: Path) -> Sluice:
    """The command, pointed at that server."""
    return Sluice(server.address, tmp_path / "state")


@pytest.fixture
async def wire(server: StandaloneServer) -> AsyncIterator[WireClient]:
    """A client made of the generated stubs, pointed at that server."""
    async with grpc.aio.insecure_channel(server.address, options=CHANNEL_OPTIONS) as channel:
        yield WireClient(channel)
