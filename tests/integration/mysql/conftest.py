"""Fixtures: a database server per pytest process and a catalogue with one drive."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_backends.sql.database import Database
from sluice_core.ports.catalogue import DrivePolicy
from support.commits import BUCKET, DRIVE, TENANT
from support.mysql_proxy import MysqlProxy, running_proxy
from support.mysql_server import MysqlServer, shared_server


@pytest.fixture
def server() -> MysqlServer:
    return shared_server()


@pytest.fixture
async def url(server: MysqlServer) -> str:
    """Return the URL of a migrated database without rows."""
    return await server.emptied_database()


@pytest.fixture
async def catalogue(url: str) -> AsyncIterator[SqlCatalogue]:
    async with open_catalogue(url) as opened:
        await opened.create_drive(TENANT, DRIVE, BUCKET, "", DrivePolicy())
        yield opened


@pytest.fixture
def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable batches, so that a transaction can be held at its COMMIT with all else done."""

    async def refuse(*_: object) -> bool:
        return False

    monkeypatch.setattr(Database, "commit_batch", refuse)


@pytest.fixture
async def proxy(server: MysqlServer) -> AsyncIterator[MysqlProxy]:
    async with running_proxy(server.port) as running:
        yield running


@pytest.fixture
def proxied(server: MysqlServer, url: str, proxy: MysqlProxy) -> str:
    """Return the URL of the same database through the proxy."""
    return server.url(url.rpartition("/")[2], port=proxy.port)
