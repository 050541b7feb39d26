"""Fixtures that run the contract of work queues on every adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import pytest

from sluice_backends.memory import queue as memory_queue
from sluice_backends.redis.queue import queue as redis_queues
from sluice_core.ports import WorkQueue
from support.factories import name_of
from support.work_queues import ALL, LONG_SECONDS, QUICK_LEASE_SECONDS, Factory


@pytest.fixture(params=ALL, ids=name_of)
def factory(request: pytest.FixtureRequest) -> Factory:
    return cast(Factory, request.param)


@pytest.fixture
async def queue(factory: Factory) -> AsyncIterator[WorkQueue]:
    """A queue whose leases outlast the test."""
    async with factory(LONG_SECONDS) as opened:
        yield opened


@pytest.fixture
async def without_polling(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WorkQueue]:
    """A queue without polling: every delivery results from a notification."""
    monkeypatch.setattr(memory_queue, "_POLL_SECONDS", LONG_SECONDS)
    monkeypatch.setattr(redis_queues, "_SCAN_SECONDS", LONG_SECONDS)
    async with factory(LONG_SECONDS) as opened:
        yield opened


@pytest.fixture
async def frequent_polling(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WorkQueue]:
    """A queue with frequent polling: `age_delivery` expires leases, which are found soon."""
    monkeypatch.setattr(memory_queue, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(redis_queues, "_SCAN_SECONDS", 0.02)
    async with factory(LONG_SECONDS) as opened:
        yield opened


@pytest.fixture
async def lapsing_soon(factory: Factory) -> AsyncIterator[WorkQueue]:
    async with factory(QUICK_LEASE_SECONDS) as opened:
        yield opened
