"""Two guarded servers with a drive of each access."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.guarded_services import GuardedServices, guarded_services


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[GuardedServices]:
    async with guarded_services(tmp_path) as running:
        await running.add_drives("acme")
        yield running
