"""Where databases differ: how a transaction begins, how a row is claimed, whose clock counts.

Everything else of the catalogue is SQL that all of them take alike (`FOR UPDATE` included:
SQLAlchemy leaves it out for SQLite, whose writers exclude each other anyway).
"""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sqlalchemy import URL, ColumnElement, Connection, Insert, Table, event, literal
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sluice_common.catalogue.schema import Micros
from sluice_common.coordination.options import Clock
from sluice_common.errors import FailedPrecondition

BUSY_SECONDS = 10
"""How long a writer waits for a writer of another process before CATALOGUE_UNAVAILABLE."""

WRITE_OPTION = "sluice_write"
"""Execution option of an engine whose transactions write."""


class Dialect(Protocol):
    """What one kind of database does in its own way."""

    def create_engine(self) -> AsyncEngine: ...

    def insert_if_absent(self, table: Table) -> Insert:
        """Insert unless the primary or a unique key is taken; `rowcount` says whether it did."""
        ...

    def now(self) -> ColumnElement[float]:
        """The time by which leases run: the database's, where it has one of its own."""
        ...

    def writer(self) -> AbstractAsyncContextManager[Any]:
        """Held around every write transaction of this process."""
        ...


class SqliteDialect:
    """SQLite in WAL mode: readers never wait, writers take turns.

    Args:
        url: a `sqlite+aiosqlite` URL that names a file.
        fsync: whether a commit survives a power cut; without it, only `kill -9`.
        clock: the process's clock, which is also the database's.
    """

    def __init__(
        self,
        url: URL,
        writer: AbstractAsyncContextManager[Any],
        *,
        fsync: bool = False,
        clock: Clock = time.time,
    ) -> None:
        self._url = url
        self._writer = writer
        self._fsync = fsync
        self._clock = clock

    def create_engine(self) -> AsyncEngine:
        engine = create_async_engine(
            self._url,
            # One thread per connection: one writer and a few readers are all that SQLite can use.
            pool_size=4,
            max_overflow=0,
            pool_timeout=BUSY_SECONDS,
        )
        event.listen(engine.sync_engine, "connect", self._on_connect)
        event.listen(engine.sync_engine, "begin", _on_begin)
        return engine

    def insert_if_absent(self, table: Table) -> Insert:
        return sqlite.insert(table).on_conflict_do_nothing()

    def now(self) -> ColumnElement[float]:
        return literal(self._clock(), Micros)

    def writer(self) -> AbstractAsyncContextManager[Any]:
        # Without it the writers of one process would find each other's lock and poll for it.
        return self._writer

    def _on_connect(self, connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        cursor = connection.cursor()
        try:
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute(f"PRAGMA synchronous = {'FULL' if self._fsync else 'NORMAL'}")
            cursor.execute("PRAGMA foreign_keys = ON")
        finally:
            cursor.close()


def _on_begin(connection: Connection) -> None:
    # A writer takes the write lock first: a deferred one could read, find itself overtaken and
    # fail. A reader begins nothing, because each of its statements is a snapshot by itself.
    if connection.get_execution_options().get(WRITE_OPTION):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def unsupported(url: URL) -> FailedPrecondition:
    return FailedPrecondition(
        "CATALOGUE_URL_UNSUPPORTED",
        f"The catalogue cannot be kept in {url.get_backend_name()!r}; use a sqlite:/// URL that"
        " names a file.",
    )
