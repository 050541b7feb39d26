"""Fixtures that run the contract of chunk stores on every adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_core.ports import ChunkStore
from support.chunk_stores import ALL, KEEPING, LISTING
from support.factories import name_of


@pytest.fixture(params=KEEPING, ids=name_of)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChunkStore]:
    async with request.param(tmp_path) as opened:
        yield opened


@pytest.fixture(params=LISTING, ids=name_of)
async def listing_store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[ChunkStore]:
    async with request.param(tmp_path) as opened:
        yield opened


@pytest.fixture(params=ALL, ids=name_of)
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChunkStore]:
    async with request.param(tmp_path) as opened:
        yield opened
