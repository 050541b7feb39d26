"""Fixtures that run the catalogue's contract on every database engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_backends.sql.catalogue import open_catalogue
from sluice_core.ports.catalogue import DrivePolicy
from sluice_core.ports.gateway import GatewayCatalogue
from support.catalogue_files import empty_catalogue
from support.commits import BUCKET, DRIVE, TENANT
from support.mysql_server import shared_server


@pytest.fixture(params=["sqlite", "mysql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty, migrated database of the engine."""
    if request.param == "mysql":
        return await shared_server().emptied_database()
    return await empty_catalogue(tmp_path)


@pytest.fixture
async def catalogue(url: str) -> AsyncIterator[GatewayCatalogue]:
    """A catalogue with one drive."""
    async with open_catalogue(url) as opened:
        await opened.create_drive(TENANT, DRIVE, BUCKET, "", DrivePolicy())
        yield opened
