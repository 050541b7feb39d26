"""Fixtures of the projector's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_backends.files.store import FileObjectStore
from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_core.ports.catalogue import DrivePolicy
from support.catalogue_files import empty_catalogue
from support.commits import BUCKET, DRIVE, TENANT
from support.photo_sweeps import SweptRoom
from support.projection import Stage


@pytest.fixture
async def catalogue(tmp_path: Path) -> AsyncIterator[SqlCatalogue]:
    """A catalogue with one drive."""
    async with open_catalogue(await empty_catalogue(tmp_path)) as opened:
        await opened.create_drive(TENANT, DRIVE, BUCKET, "", DrivePolicy())
        yield opened


@pytest.fixture
async def room(catalogue: SqlCatalogue, tmp_path: Path) -> AsyncIterator[SweptRoom]:
    async with FileObjectStore(tmp_path / "objects", fsync=False) as store:
        await store.check(BUCKET)
        yield SweptRoom(Stage(catalogue), store)
