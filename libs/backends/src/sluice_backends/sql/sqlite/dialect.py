"""Dialect of SQLite: one file on one machine."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any
from weakref import WeakSet

import aiosqlite
from sqlalchemy import URL, ColumnElement, Connection, Insert, Table, event, literal
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import (
    DatabaseError,
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sluice_backends.sql.dialect import NOTHING, WRITE_OPTION, Fault, Step
from sluice_backends.sql.schema import Micros
from sluice_core.ledger.options import Clock

BUSY_SECONDS = 10
"""How long a writer waits for one of another process before CATALOGUE_UNAVAILABLE."""

_WAL_RETRY_SECONDS = 0.01

_ACCESS_DENIED = frozenset(
    {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH}
)


class SqliteDialect:
    """SQLite in WAL mode: readers never wait, writers take turns.

    Args:
        url: a `sqlite+aiosqlite` URL that names a file; `mode=ro` opens one that exists for reads.
        fsync: whether a commit survives a power cut; without it, only `kill -9`.
        clock: the process's clock, which is also the database's.
    """

    deadline_seconds: float | None = None
    one_writer = True

    def __init__(self, url: URL, *, fsync: bool = False, clock: Clock = time.time) -> None:
        self._url = url
        self._writer = asyncio.Lock()
        self._fsync = fsync
        self._clock = clock
        self._threads: WeakSet[threading.Thread] = WeakSet()

    def create_engine(self) -> AsyncEngine:
        engine = create_async_engine(
            self._url,
            hide_parameters=True,  # errors are logged, and rows contain locations and metadata
            # One thread per connection: SQLite benefits from one writer and a few readers only.
            pool_size=4,
            max_overflow=0,
            pool_timeout=BUSY_SECONDS,
            connect_args={"factory": self._open},
        )
        event.listen(engine.sync_engine, "connect", self._on_connect)
        event.listen(engine.sync_engine, "begin", _on_begin)
        return engine

    async def close(self, engine: AsyncEngine) -> None:
        await engine.dispose()
        # The driver does not wait for the thread of a connection that failed to open or was
        # dropped. That thread still uses the event loop, which may be closed next.
        for thread in list(self._threads):
            await asyncio.to_thread(thread.join, BUSY_SECONDS)

    def _open(self, *arguments: Any, **keywords: Any) -> sqlite3.Connection:
        """Open the file in the driver's thread of this connection."""
        self._threads.add(threading.current_thread())
        return sqlite3.Connection(*arguments, **keywords)

    async def insert_if_absent(
        self,
        connection: AsyncConnection,
        table: Table,
        row: Mapping[str, Any],
        computed: Mapping[str, ColumnElement[Any]] = NOTHING,
    ) -> bool:
        statement = sqlite.insert(table).on_conflict_do_nothing()
        if computed:
            statement = statement.values(**computed)
        return (await connection.execute(statement, dict(row))).rowcount == 1

    async def commit_batch(self, engine: AsyncEngine, steps: Sequence[Step]) -> bool:
        return False  # the database is local

    def insert_or_lock(self, table: Table) -> Insert:
        # A writer already holds the only lock.
        return sqlite.insert(table).on_conflict_do_nothing()

    def now(self) -> ColumnElement[float]:
        return literal(self._clock(), Micros)

    def writer(self) -> AbstractAsyncContextManager[Any]:
        # Without it, the writers of one process would poll for each other's lock.
        return self._writer

    def migration_lock(self, connection: AsyncConnection) -> AbstractAsyncContextManager[None]:
        # The write transaction of the migration is the lock: a second run waits for it and then has
        # nothing to do.
        return nullcontext()

    async def check_server(self, connection: AsyncConnection) -> None:
        """No-op: the library is part of Python, and there is no server."""

    def fault_of(self, error: DBAPIError) -> Fault:
        if _primary_code(error.orig) in _ACCESS_DENIED:
            return Fault.ACCESS_DENIED
        if isinstance(error, (OperationalError, InterfaceError, InternalError)):
            return Fault.UNAVAILABLE
        if error.connection_invalidated:
            return Fault.UNAVAILABLE
        # A plain DatabaseError means a damaged file or no database; other errors are subclasses.
        return Fault.DAMAGED if type(error) is DatabaseError else Fault.DEFECT

    def describe_denial(self, error: DBAPIError) -> str:
        return (
            f"the file {self._url.database} cannot be opened for writing; make its folder if it is"
            " missing, and let this user write to both"
        )

    def _on_connect(self, connection: Any, _record: object) -> None:
        connection.isolation_level = None  # no implicit transactions of the driver
        connection.run_async(self._set_up)

    async def _set_up(self, driver: aiosqlite.Connection) -> None:
        await driver.execute_fetchall(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        if self._url.query.get("mode") != "ro":
            await _switch_to_wal(driver)
        await driver.execute_fetchall(f"PRAGMA synchronous = {'FULL' if self._fsync else 'NORMAL'}")
        await driver.execute_fetchall("PRAGMA foreign_keys = ON")


def _primary_code(error: BaseException | None) -> int | None:
    """Return the primary code of an SQLite error, without the extended bits."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


async def _switch_to_wal(driver: aiosqlite.Connection) -> None:
    """Switch the file to WAL mode; retry while it is locked.

    The switch happens once in the life of a file. Of several connections that open a new file
    concurrently, all but one may immediately get SQLITE_BUSY: `busy_timeout` does not apply to the
    switch, because two waiting connections would deadlock.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            await driver.execute_fetchall("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        await asyncio.sleep(_WAL_RETRY_SECONDS)


def _on_begin(connection: Connection) -> None:
    # A writer takes the write lock first: a deferred transaction could read and then fail to
    # upgrade. A reader starts no transaction, because each of its statements is a snapshot.
    if connection.get_execution_options().get(WRITE_OPTION):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
