"""A client against an intake that fails on command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_client import Client, ClientOptions, RetryPolicy
from support.fake_intake import FakeIntake, serving


@pytest.fixture
def fast_options(tmp_path: Path) -> ClientOptions:
    """Real behaviour at the pace of a test."""
    return ClientOptions(
        retry=RetryPolicy(
            first_delay_seconds=0.001, longest_delay_seconds=0.01, patience_seconds=20
        ),
        completion_wait_seconds=0.1,
        state_dir=tmp_path / "state",
    )


@pytest.fixture
async def intake() -> FakeIntake:
    return FakeIntake()


@pytest.fixture
async def address(intake: FakeIntake) -> AsyncIterator[str]:
    async with serving(intake) as address:
        yield address


@pytest.fixture
async def client(address: str, fast_options: ClientOptions) -> AsyncIterator[Client]:
    async with Client(address, token="a-token", options=fast_options) as client:
        yield client
