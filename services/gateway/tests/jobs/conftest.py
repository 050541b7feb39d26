"""Fixtures of the tests of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.photo_gateway import PhotoGateway, photo_gateway


@pytest.fixture
async def photos(tmp_path: Path) -> AsyncIterator[PhotoGateway]:
    async with photo_gateway(tmp_path) as running:
        yield running
