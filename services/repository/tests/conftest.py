"""Fixtures of the repository's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.roles import World, small_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with small_world(tmp_path) as world:
        yield world
