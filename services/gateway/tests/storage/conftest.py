"""Fixtures of the object listener's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from support.object_listener import ObjectListener, running_listener


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[ObjectListener]:
    async with running_listener(tmp_path) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
