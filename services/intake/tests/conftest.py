"""Fixtures of the intake's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.intake import Intake, running_intake


@pytest.fixture(name="intake")
async def an_intake() -> AsyncIterator[Intake]:
    async with running_intake() as intake:
        yield intake
