"""Fixtures of the processor's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from sluice_processor.images.children.pool import ImageWorkers
from support.decoder_children import OPTIONS
from support.pictures import saved
from support.processor import Darkroom, darkroom


@pytest.fixture
async def workers() -> AsyncIterator[ImageWorkers]:
    async with ImageWorkers(OPTIONS) as pool:
        yield pool


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that takes a child most of a second."""
    path = tmp_path_factory.mktemp("slow") / "slow.png"
    path.write_bytes(saved(Image.new("RGB", (10_000, 8_000)), "PNG", compress_level=1))
    return path


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Darkroom]:
    async with darkroom(tmp_path) as opened:
        yield opened
