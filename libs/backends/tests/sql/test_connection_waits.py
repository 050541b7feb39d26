"""How long calls wait for a connection of the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sluice_backends.sql.database import open_database
from sluice_backends.sql.waits import WINDOW_SECONDS, ConnectionWaits
from support.waiting import until


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_longest_wait_of_the_window_counts() -> None:
    clock = Clock()
    waits = ConnectionWaits(clock)
    assert waits.longest_seconds == 0.0
    for seconds in (0.25, 3.0, 0.5):
        clock.now += 2
        with waits.waiting():
            clock.now += seconds
    assert waits.longest_seconds == 3.0
    clock.now += WINDOW_SECONDS - 1
    assert waits.longest_seconds == 0.5
    clock.now += 2
    assert waits.longest_seconds == 0.0


def test_wait_that_goes_on_counts() -> None:
    """Otherwise a jam would show only when it is over."""
    clock = Clock()
    waits = ConnectionWaits(clock)
    with waits.waiting():
        clock.now += 4
        with waits.waiting():
            clock.now += 1
            assert waits.longest_seconds == 5.0
    assert waits.longest_seconds == 5.0


def test_waits_need_bounded_memory() -> None:
    clock = Clock()
    waits = ConnectionWaits(clock)
    for _ in range(10_000):
        with waits.waiting():
            clock.now += 0.01
    assert len(waits._ended) <= WINDOW_SECONDS + 2


async def test_database_measures_waiting_writers_and_readers(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path / 'a.sqlite'}") as database:

        async def read(release: asyncio.Event) -> None:
            async with database.read():
                await release.wait()

        async def write() -> None:
            async with database.write():
                return

        async with asyncio.TaskGroup() as group:
            async with database.write():
                group.create_task(write())  # of two writers one waits
                await until(lambda: len(database.waits._waiting) == 1)
            await until(lambda: not database.waits._waiting)
            release = asyncio.Event()
            for _ in range(5):  # one more than the pool has
                group.create_task(read(release))
            await until(lambda: len(database.waits._waiting) == 1)
            release.set()
        assert database.waits.longest_seconds > 0
