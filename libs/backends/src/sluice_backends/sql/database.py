"""Database access: engines, transactions, retry and error translation."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import URL, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sluice_backends.sql.dialect import WRITE_OPTION, Dialect, Fault, Step, unsupported
from sluice_backends.sql.options import MysqlOptions
from sluice_backends.sql.sqlite.dialect import SqliteDialect
from sluice_backends.sql.waits import ConnectionWaits
from sluice_core.errors import DataLoss, FailedPrecondition, Internal, Unavailable
from sluice_core.ledger.options import Clock

T = TypeVar("T")
P = ParamSpec("P")
S = TypeVar("S", bound="SqlFamily")

_MAX_ATTEMPTS: Final = 12
"""Attempts of a transaction that loses to concurrent ones, within its deadline."""
_INITIAL_BACKOFF_SECONDS: Final = 0.005
_MAX_BACKOFF_SECONDS: Final = 0.5


class _Contended(Unavailable):
    """The transaction was rolled back in favour of another one and can be retried immediately."""


@dataclass(frozen=True, slots=True)
class Database:
    """Dialect, clock and engines shared by the query families."""

    dialect: Dialect
    clock: Clock
    reader: AsyncEngine
    writer: AsyncEngine
    waits: ConnectionWaits = field(default_factory=ConnectionWaits)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for reads; writes on it are not committed."""
        async with self.deadline():
            with self._vendor_errors():
                async with AsyncExitStack() as stack:
                    with self.waits.waiting():
                        connection = await stack.enter_async_context(self.reader.connect())
                    yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Run the block in a transaction, without retry: commit at its end, roll back on errors.

        There is no deadline, because a migration may take long.
        """
        with self._vendor_errors():
            async with AsyncExitStack() as stack:
                with self.waits.waiting():
                    await stack.enter_async_context(self.dialect.writer())
                    connection = await stack.enter_async_context(self.writer.begin())
                yield connection

    async def now(self, connection: AsyncConnection) -> float:
        """Return the time of the database, which is the same for every process."""
        return float((await connection.execute(select(self.dialect.now()))).scalar_one())

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in a transaction; retry it when the database rolled it back for another one.

        The catalogue retries nothing else. A transaction on a lost connection may have committed,
        and only the caller knows how to check.
        """
        async with self.deadline():
            for attempt in range(1, _MAX_ATTEMPTS):
                try:
                    async with self.write() as connection:
                        return await work(connection)
                except _Contended:
                    # Full jitter, so that colliding transactions do not collide again.
                    longest = min(_MAX_BACKOFF_SECONDS, _INITIAL_BACKOFF_SECONDS * 2**attempt)
                    await asyncio.sleep(random.uniform(0, longest))
            async with self.write() as connection:
                return await work(connection)

    async def commit_batch(self, steps: Sequence[Step]) -> bool:
        """Run a transaction of these steps in one round trip, without retry.

        Return False, with nothing done, when a key is taken, when another transaction conflicts, or
        when the database is local. Then use `transact`.
        """
        async with self.deadline():
            try:
                with self._vendor_errors():
                    return await self.dialect.commit_batch(self.writer, steps)
            except _Contended:
                return False

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Limit the time of a read or transaction; calls within the block share it."""
        # Cancellation closes the connection, so that no partially read one is reused.
        try:
            async with asyncio.timeout(self.dialect.deadline_seconds) as deadline:
                yield
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise _unavailable() from error

    @contextmanager
    def _vendor_errors(self) -> Iterator[None]:
        """Translate errors of the driver; other errors pass through."""
        try:
            yield
        except PoolTimeoutError as error:
            raise _unavailable() from error
        except DBAPIError as error:
            raise self._to_catalogue_error(error) from error
        except SQLAlchemyError as error:
            raise _defect() from error

    def _to_catalogue_error(self, error: DBAPIError) -> Exception:
        match self.dialect.fault_of(error):
            case Fault.UNAVAILABLE:
                return _unavailable()
            case Fault.CONTENDED:
                return _Contended(
                    "CATALOGUE_UNAVAILABLE",
                    "Too many transactions compete for the same catalogue rows; repeat the call.",
                    retry_after_seconds=1.0,
                )
            case Fault.ACCESS_DENIED:
                # Retryable: an operator corrects grants and passwords, and uploads wait for that.
                return Unavailable(
                    "CATALOGUE_ACCESS_DENIED",
                    "The catalogue's database denies access to this server, which its operator has"
                    " to change; repeat the call later.",
                    retry_after_seconds=10.0,
                    log_detail=self.dialect.describe_denial(error),
                )
            case Fault.DAMAGED:
                return DataLoss(
                    "CATALOGUE_DAMAGED",
                    "The catalogue's file is damaged or no database; restore it from a copy.",
                )
            case Fault.DEFECT:
                return _defect()


class SqlFamily:
    """Base of the query families that form the catalogue."""

    def __init__(self, database: Database) -> None:
        self._db = database


def transaction(
    step: Callable[Concatenate[S, AsyncConnection, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Run a method of a family in a transaction and pass its connection as first argument.

    The method may run several times before a commit, so it must change only the database.
    """

    @wraps(step)
    async def committed(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._db.transact(lambda connection: step(self, connection, *args, **kwargs))

    return committed


@asynccontextmanager
async def open_database(
    url: str,
    *,
    fsync: bool = False,
    clock: Clock = time.time,
    mysql: MysqlOptions | None = None,
) -> AsyncIterator[Database]:
    """Open the database at `url`; connect on first use and close all connections at exit.

    Raise `FailedPrecondition` CATALOGUE_URL_UNSUPPORTED.
    """
    dialect = _dialect_of(_parse(url), fsync=fsync, clock=clock, mysql=mysql or MysqlOptions())
    engine = dialect.create_engine()
    try:
        yield Database(dialect, clock, engine, engine.execution_options(**{WRITE_OPTION: True}))
    finally:
        await dialect.close(engine)


def _unavailable() -> Unavailable:
    return Unavailable(
        "CATALOGUE_UNAVAILABLE",
        "The catalogue's database does not answer; repeat the call in a moment.",
        retry_after_seconds=1.0,
    )


def _defect() -> Internal:
    return Internal(
        "CATALOGUE_DEFECT",
        "The catalogue's database refused a statement; this is a defect, please report it.",
    )


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: the port is no number
        # The URL may contain a password: neither it nor the parser's message is repeated.
        raise FailedPrecondition(
            "CATALOGUE_URL_UNSUPPORTED",
            "The catalogue's URL is invalid; use one like sqlite:////var/lib/sluice/c.db"
            " or mysql+aiomysql://USER:PASSWORD@HOST/DATABASE.",
        ) from error


def _dialect_of(url: URL, *, fsync: bool, clock: Clock, mysql: MysqlOptions) -> Dialect:
    """Return the dialect for the scheme of the URL."""
    match url.get_backend_name():
        case "sqlite" if url.database not in (None, "", ":memory:"):
            return SqliteDialect(url.set(drivername="sqlite+aiosqlite"), fsync=fsync, clock=clock)
        case "mysql" | "mariadb":
            # Here: a process without MySQL does not import its driver, 4 % of a start.
            from sluice_backends.sql.mysql.dialect import MysqlDialect

            return MysqlDialect(url.set(drivername="mysql+aiomysql"), mysql)
        case _:
            raise unsupported(url)
