"""Fixtures of the tests that run Prometheus; `make check-monitoring` runs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from support.missing import missing
from support.watched_fleet import WatchedFleet, watched_fleet
from tools.backends.errors import ServiceError
from tools.backends.monitoring import need_program


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Return a function that finds a program, or skips the test; in CI it fails instead."""

    def find(name: str) -> str:
        try:
            return need_program(name)
        except ServiceError as error:
            missing(f"{error}, or run `make peers PEERS=monitoring` as root")

    return find


@pytest.fixture(scope="session")
def prometheus_programs(program: Callable[[str], str]) -> None:
    """Need Prometheus and Alertmanager."""
    program("prometheus")
    program("alertmanager")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started_fleet(
    prometheus_programs: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[WatchedFleet]:
    """Every service on real backends, once for all tests of a module."""
    async with watched_fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def fleet(started_fleet: WatchedFleet) -> AsyncIterator[WatchedFleet]:
    """The fleet, without the faults of a test before."""
    yield started_fleet
    await started_fleet.mend()
