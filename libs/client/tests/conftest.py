"""A client connected to an intake that fails on command."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sluice_client import Client, ClientOptions, RetryPolicy
from support.command import Command
from support.fake_intake import FakeIntake
from support.fake_repository import FakeRepository, serving_both


@pytest.fixture
def fast_options(tmp_path: Path) -> ClientOptions:
    """Options with real behaviour and short waits."""
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
async def address(intake: FakeIntake, repository: FakeRepository) -> AsyncIterator[str]:
    async with serving_both(intake, repository) as address:
        yield address


@pytest.fixture
async def client(address: str, fast_options: ClientOptions) -> AsyncIterator[Client]:
    async with Client(address, token="a-token", options=fast_options) as client:
        yield client


@pytest.fixture
def _interrupts() -> Iterator[None]:
    """Ensure that child processes receive SIGINT.

    A test run that a shell started in the background ignores SIGINT, and so would the command. A
    handler here becomes the default in a child. It is not set in the child: that would require a
    fork of this process, whose gRPC threads do not survive one.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
async def repository() -> FakeRepository:
    return FakeRepository()


@pytest.fixture
async def sluice(
    intake: FakeIntake, repository: FakeRepository, tmp_path: Path, _interrupts: None
) -> AsyncIterator[Command]:
    async with serving_both(intake, repository) as address:
        yield Command(address, tmp_path)
