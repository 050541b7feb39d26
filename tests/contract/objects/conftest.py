"""Fixtures that run the contract of object stores on every adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_core.ports.object_store import ObjectStore
from support.factories import name_of
from support.object_stores import ALL, BUCKET, KEEPING, SIGNING


@pytest.fixture(params=KEEPING, ids=name_of)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with request.param(tmp_path) as opened:
        await opened.check(BUCKET)
        yield opened


@pytest.fixture(params=ALL, ids=name_of)
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with request.param(tmp_path) as opened:
        await opened.check(BUCKET)
        yield opened


@pytest.fixture(params=SIGNING, ids=name_of)
async def signing(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with request.param(tmp_path) as opened:
        await opened.check(BUCKET)
        yield opened
