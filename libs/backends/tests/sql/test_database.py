"""Tests of database errors and of the SQLite setup."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import traceback
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import insert, text

from sluice_backends.sql.catalogue import open_catalogue
from sluice_backends.sql.database import Database, open_database
from sluice_backends.sql.migrate import migrate
from sluice_backends.sql.rows import dump_map, load_map
from sluice_backends.sql.schema import leases
from sluice_core.errors import DataLoss, FailedPrecondition, Internal, Unavailable
from support.catalogue_files import catalogue_file, empty_catalogue

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


async def test_failed_transaction_is_rolled_back(database: Database) -> None:
    async def fail() -> None:
        async with database.write() as connection:
            await connection.execute(insert(leases), LEASE)
            raise KeyError("changed my mind")

    with pytest.raises(KeyError):
        await fail()
    assert await names(database) == []


async def test_cancelled_transaction_releases_write_lock(
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


async def test_readers_do_not_wait_for_writer(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(insert(leases), LEASE)
        async with asyncio.timeout(5):
            assert await names(database) == []


async def test_invalid_file_raises_catalogue_damaged(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(DataLoss, match="CATALOGUE_DAMAGED"):
        async with open_catalogue(f"sqlite:///{path}"):
            pass


async def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"CATALOGUE_ACCESS_DENIED: .*/no/where\.db cannot be"):
        async with open_catalogue(f"sqlite:///{tmp_path / 'no' / 'where.db'}"):
            pass


async def test_threads_of_failed_connections_end_before_loop(
    tmp_path: Path,
) -> None:
    """The threads use the event loop: after its end that is an unhandled error."""
    url = f"sqlite:///{tmp_path / 'missing' / 'catalogue.db'}"
    before = set(threading.enumerate())
    alive = 0
    for _ in range(50):
        async with open_database(url) as database:
            with pytest.raises(Unavailable):
                await names(database)
        leaked = set(threading.enumerate()) - before
        alive += sum("_connection_worker_thread" in thread.name for thread in leaked)
    assert alive == 0


async def test_read_only_file_is_named(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(Unavailable, match=r"CATALOGUE_ACCESS_DENIED: .*catalogue\.db cannot be"):
        # File permissions do not restrict root; SQLite's read-only mode does.
        await migrate(f"sqlite:///file:{path}?mode=ro&uri=true")


async def test_file_that_is_opened_for_reads_is_not_written(tmp_path: Path) -> None:
    folder = tmp_path / "a folder? 100%"
    folder.mkdir()
    reads_only = f"sqlite:///file:{quote(str(catalogue_file(folder)))}?mode=ro&uri=true"
    with pytest.raises(Unavailable):
        async with open_catalogue(reads_only):
            pass
    assert not list(folder.iterdir())
    await empty_catalogue(folder)
    async with open_catalogue(reads_only) as catalogue:
        assert (await catalogue.count_outbox()).rows == 0
    async with open_database(reads_only) as database:
        with pytest.raises(Unavailable):
            async with database.write() as connection:
                await connection.execute(insert(leases).values(**LEASE))


async def test_constraint_violation_is_a_defect(database: Database) -> None:
    with pytest.raises(Internal, match="CATALOGUE_DEFECT"):
        async with database.write() as connection:
            await connection.execute(insert(leases), [LEASE, LEASE])


@pytest.mark.parametrize(
    "url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "postgresql://u:secret@h/d"]
)
async def test_unsupported_url_is_rejected_without_its_text(url: str) -> None:
    with pytest.raises(FailedPrecondition, match="CATALOGUE_URL_UNSUPPORTED") as refused:
        async with open_catalogue(url):
            pass
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(("fsync", "synchronous"), [(False, 1), (True, 2)])
async def test_fsync_sets_synchronous_mode(
    database: Database, path: Path, fsync: bool, synchronous: int
) -> None:
    async with (
        open_database(f"sqlite:///{path}", fsync=fsync) as opened,
        opened.read() as connection,
    ):
        pragmas = {
            pragma: (await connection.execute(text(f"PRAGMA {pragma}"))).scalar_one()
            for pragma in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": synchronous, "foreign_keys": 1}


async def test_writer_waits_for_other_process(database: Database, path: Path) -> None:
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


def test_map_round_trips_and_unknown_format_is_rejected() -> None:
    entries = {"é": '"\\', "": "\U0001f600"}
    assert load_map(dump_map(entries)) == entries
    with pytest.raises(DataLoss, match="UNKNOWN_FORMAT"):
        load_map('{"format":2,"entries":{}}')


async def test_error_hides_statement_values(database: Database) -> None:
    """Errors are logged with their causes, and rows contain locations of photos."""
    canary = {**LEASE, "holder": "51.4778925"}
    with pytest.raises(Internal) as caught:
        async with database.write() as connection:
            await connection.execute(insert(leases), [canary, canary])
    shown = "".join(traceback.format_exception(caught.value))
    assert "INSERT INTO leases" in shown
    assert "51.4778925" not in shown
