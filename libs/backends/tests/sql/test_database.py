"""What becomes of a database's own errors, and how SQLite is set up."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import traceback
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from sluice_backends.sql.catalogue import open_catalogue
from sluice_backends.sql.database import Database, open_database
from sluice_backends.sql.migrate import migrate
from sluice_backends.sql.rows import dump_map, load_map
from sluice_backends.sql.schema import leases
from sluice_core.errors import DataLoss, FailedPrecondition, Internal, Unavailable

LEASE = {"name": "n", "holder": "h", "expires_at": 1.0}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalogue.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    await migrate(f"sqlite:///{path}")
    async with open_database(f"sqlite:///{path}") as opened:
        yield opened


async def names(database: Database) -> list[str]:
    async with database.read() as connection:
        return list((await connection.execute(text("SELECT name FROM leases"))).scalars())


async def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.write() as connection:
            await connection.execute(insert(leases), LEASE)
            raise KeyError("changed my mind")

    with pytest.raises(KeyError):
        await fail()
    assert await names(database) == []


async def test_a_cancelled_transaction_leaves_nothing_and_blocks_nobody(
    database: Database,
) -> None:
    inside = asyncio.Event()

    async def stuck() -> None:
        async with database.write() as connection:
            await connection.execute(insert(leases), LEASE)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stuck())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names(database) == []
    async with asyncio.timeout(5), database.write() as connection:
        await connection.execute(insert(leases), LEASE)
    assert await names(database) == ["n"]


async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(insert(leases), LEASE)
        async with asyncio.timeout(5):
            assert await names(database) == []


async def test_a_file_that_is_no_database_is_called_damaged(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(DataLoss, match="CATALOGUE_DAMAGED"):
        async with open_catalogue(f"sqlite:///{path}"):
            pass


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"CATALOGUE_ACCESS_DENIED: .*/no/where\.db cannot be"):
        async with open_catalogue(f"sqlite:///{tmp_path / 'no' / 'where.db'}"):
            pass


async def test_the_threads_of_connections_that_fail_to_open_end_before_the_loop(
    tmp_path: Path,
) -> None:
    """They answer through the event loop: after its end that is an unhandled error."""
    url = f"sqlite:///{tmp_path / 'missing' / 'catalogue.db'}"
    before = set(threading.enumerate())
    alive = 0
    for _ in range(50):
        async with open_database(url) as database:
            with pytest.raises(Unavailable):
                await names(database)
        found = set(threading.enumerate()) - before
        alive += sum("_connection_worker_thread" in thread.name for thread in found)
    assert alive == 0


async def test_a_file_that_may_only_be_read_is_named(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(Unavailable, match=r"CATALOGUE_ACCESS_DENIED: .*catalogue\.db cannot be"):
        # Rights do not hold the superuser back, SQLite's own mode does.
        await migrate(f"sqlite:///file:{path}?mode=ro&uri=true")


async def test_a_statement_that_breaks_a_constraint_is_our_defect(database: Database) -> None:
    with pytest.raises(Internal, match="CATALOGUE_DEFECT"):
        async with database.write() as connection:
            await connection.execute(insert(leases), [LEASE, LEASE])


@pytest.mark.parametrize(
    "url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "postgresql://u:secret@h/d"]
)
async def test_other_databases_are_refused_without_repeating_the_url(url: str) -> None:
    with pytest.raises(FailedPrecondition, match="CATALOGUE_URL_UNSUPPORTED") as refused:
        async with open_catalogue(url):
            pass
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(("fsync", "synchronous"), [(False, 1), (True, 2)])
async def test_fsync_chooses_how_hard_a_commit_is(
    database: Database, path: Path, fsync: bool, synchronous: int
) -> None:
    async with (
        open_database(f"sqlite:///{path}", fsync=fsync) as opened,
        opened.read() as connection,
    ):
        found = {
            pragma: (await connection.execute(text(f"PRAGMA {pragma}"))).scalar_one()
            for pragma in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": synchronous, "foreign_keys": 1}


async def test_a_writer_of_another_process_is_waited_for(database: Database, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        async def write() -> None:
            async with database.write() as connection:
                await connection.execute(insert(leases), LEASE)

        async with asyncio.timeout(9), asyncio.TaskGroup() as group:
            group.create_task(write())
            await asyncio.sleep(0.2)
            assert await names(database) == []
            other.execute("COMMIT")
    assert await names(database) == ["n"]


def test_a_map_comes_back_and_an_unknown_format_is_not_guessed_at() -> None:
    entries = {"é": '"\\', "": "\U0001f600"}
    assert load_map(dump_map(entries)) == entries
    with pytest.raises(DataLoss, match="UNKNOWN_FORMAT"):
        load_map('{"format":2,"entries":{}}')


async def test_an_error_does_not_show_what_was_to_be_written(database: Database) -> None:
    """It is logged with its causes; rows hold the places where pictures were taken."""
    canary = {**LEASE, "holder": "51.4778925"}
    with pytest.raises(Internal) as caught:
        async with database.write() as connection:
            await connection.execute(insert(leases), [canary, canary])
    shown = "".join(traceback.format_exception(caught.value))
    assert "INSERT INTO leases" in shown
    assert "51.4778925" not in shown
