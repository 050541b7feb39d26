"""One database: its engine, its transactions, and its errors in our words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from sqlalchemy import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sluice_common.catalogue.dialect import WRITE_OPTION, Dialect, SqliteDialect, unsupported
from sluice_common.coordination.options import Clock
from sluice_common.errors import DataLoss, FailedPrecondition, Internal, Unavailable


@dataclass(frozen=True, slots=True)
class Database:
    """What the families of queries share. Every transaction is one `async with`."""

    dialect: Dialect
    clock: Clock
    reader: AsyncEngine
    writer: AsyncEngine

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read from; nothing done with it is kept."""
        with vendor_errors():
            async with self.reader.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed when the block ends, rolled back when it raises."""
        with vendor_errors():
            async with self.dialect.writer(), self.writer.begin() as connection:
                yield connection


class SqlFamily:
    """Base of the families of queries that together are the catalogue."""

    def __init__(self, database: Database) -> None:
        self._db = database


@asynccontextmanager
async def open_database(
    url: str, *, fsync: bool = False, clock: Clock = time.time
) -> AsyncIterator[Database]:
    """Connect to the database at `url`; leaving closes every connection.

    Raises `FailedPrecondition` CATALOGUE_URL_UNSUPPORTED.
    """
    dialect = _dialect_of(_parse(url), fsync=fsync, clock=clock)
    engine = dialect.create_engine()
    try:
        yield Database(dialect, clock, engine, engine.execution_options(**{WRITE_OPTION: True}))
    finally:
        await engine.dispose()


@contextmanager
def vendor_errors() -> Iterator[None]:
    """Translate what the driver raises; our own errors pass through."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, PoolTimeoutError) as error:
        raise Unavailable(
            "CATALOGUE_UNAVAILABLE",
            "The catalogue's database does not answer; repeat the call in a moment.",
            retry_after_seconds=1.0,
        ) from error
    except DBAPIError as error:
        # A connection that broke in the middle of a statement may surface as anything.
        if error.connection_invalidated:
            raise Unavailable(
                "CATALOGUE_UNAVAILABLE",
                "The connection to the catalogue's database was lost; repeat the call.",
                retry_after_seconds=1.0,
            ) from error
        # SQLite's word for a file that is damaged or no database; its other errors are subclasses.
        if type(error) is DatabaseError:
            raise DataLoss(
                "CATALOGUE_DAMAGED",
                "The catalogue's file is damaged or no database; restore it from a copy.",
            ) from error
        raise _defect() from error
    except SQLAlchemyError as error:
        raise _defect() from error


def _defect() -> Internal:
    return Internal(
        "CATALOGUE_DEFECT",
        "The catalogue's database refused a statement; this is a defect, please report it.",
    )


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        # The URL may hold a password: neither it nor the parser's words are repeated.
        raise FailedPrecondition(
            "CATALOGUE_URL_UNSUPPORTED",
            "The catalogue's URL cannot be read; it looks like sqlite:////var/lib/sluice/c.db.",
        ) from error


def _dialect_of(url: URL, *, fsync: bool, clock: Clock) -> Dialect:
    """The seam for further databases: the URL's scheme chooses."""
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        return SqliteDialect(
            url.set(drivername="sqlite+aiosqlite"), asyncio.Lock(), fsync=fsync, clock=clock
        )
    raise unsupported(url)
