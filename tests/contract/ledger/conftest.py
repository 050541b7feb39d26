"""Fixtures that run the ledger's contract on every adapter, with a clock that tests control. Add an
adapter by one line in LEDGERS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice_backends.redis.ledger import ledger as redis_ledger
from sluice_core.ledger import transactional
from sluice_core.ports import UploadLedger
from support.ledgers import LEDGERS, ROOMY, Driver, FakeClock, LedgerFactory, OpenDriver


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=list(LEDGERS.values()), ids=list(LEDGERS))
def factory(request: pytest.FixtureRequest) -> LedgerFactory:
    made: LedgerFactory = request.param
    return made


@pytest.fixture
async def open_driver(
    factory: LedgerFactory, clock: FakeClock, tmp_path: Path
) -> AsyncIterator[OpenDriver]:
    """Return a function that opens a ledger with options that override ROOMY."""
    async with AsyncExitStack() as opened:

        async def open_ledger(**changes: Any) -> Driver:
            options = replace(ROOMY, **changes)
            ledger: UploadLedger = await opened.enter_async_context(
                factory(tmp_path, options, clock)
            )
            return Driver(ledger, clock)

        yield open_ledger


@pytest.fixture
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable polling: only a notification can end a wait during a test."""
    for module in (transactional, redis_ledger):
        monkeypatch.setattr(module, "_ASK_AGAIN_SECONDS", 600.0)
        monkeypatch.setattr(module, "_POLL_SECONDS", 600.0)


@pytest.fixture
async def driver(open_driver: OpenDriver) -> Driver:
    return await open_driver()
