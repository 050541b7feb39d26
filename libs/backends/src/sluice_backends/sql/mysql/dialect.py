"""The catalogue on MySQL 8 and MariaDB 10.6 or later, through aiomysql."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Final, cast

import aiomysql
import structlog
from pymysql.constants import CLIENT
from sqlalchemy import URL, ColumnElement, Insert, Table, insert, literal_column, text
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sluice_backends.certificates import certificate_problem
from sluice_backends.sql.dialect import NOTHING, Fault, Step
from sluice_backends.sql.mysql.connection import MysqlConnection
from sluice_backends.sql.mysql.errors import (
    DUPLICATE_KEY,
    NULL_REFUSED,
    PACKET_REFUSED,
    TLS_FAILED,
    UNKNOWN_DATABASE,
    code_of,
    fault_of_code,
)
from sluice_backends.sql.mysql.packet import packet_of
from sluice_backends.sql.options import MysqlOptions
from sluice_backends.sql.schema import Micros
from sluice_core.errors import FailedPrecondition, Unavailable

_log = structlog.get_logger(__name__)
_DEFAULT_PORT: Final = 3306
_QUERY: Final = frozenset({"charset", "ssl", "ssl_ca", "ssl_cert", "ssl_key", "unix_socket"})
# Since these versions DDL statements are atomic, so that a migration that died can be repeated.
_OLDEST_MYSQL: Final = (8, 0)
_OLDEST_MARIADB: Final = (10, 6)
# Strict mode whatever the server's default: a truncated value would give a node another name.
# Without NO_BACKSLASH_ESCAPES, because the driver's quoting relies on backslash escapes.
_SQL_MODE: Final = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


class MysqlDialect:
    """Dialect of MySQL and MariaDB with transactions under READ COMMITTED.

    Under READ COMMITTED each statement sees what was committed while the previous one waited for a
    lock (rule 19 reads again under the lock). It also takes no gap locks, which would make
    unrelated commits deadlock.

    Args:
        url: a `mysql+aiomysql` URL. Its query may have `ssl=true` or `ssl_ca` (a file of trusted
            certificates), `ssl_cert` and `ssl_key` (of the client), `unix_socket`.

    Raise `FailedPrecondition` CATALOGUE_URL_UNSUPPORTED.
    """

    one_writer = False

    def __init__(self, url: URL, options: MysqlOptions) -> None:
        if not url.database:
            raise _bad_url("names no database")
        if unknown := sorted(set(url.query) - _QUERY):
            raise _bad_url(f"has {', '.join(unknown)}, which is not known; {_known_query()}")
        if url.query.get("charset", "utf8mb4") != "utf8mb4":
            raise _bad_url("has another charset than utf8mb4")
        self._url = url
        self._options = options
        self._tls = _tls_context(url)
        self._accepts_batches = True
        self.deadline_seconds: float | None = options.transaction_seconds

    def create_engine(self) -> AsyncEngine:
        options = self._options
        return create_async_engine(
            self._url,
            hide_parameters=True,  # errors are logged, and rows contain locations and metadata
            async_creator=self._connect,
            isolation_level="READ COMMITTED",
            pool_size=options.max_connections,
            max_overflow=0,
            pool_timeout=options.pool_timeout_seconds,
            pool_recycle=options.recycle_seconds,
            pool_pre_ping=True,  # cheap, see MysqlConnection.ping
            # No extra ROLLBACK on return: database.py ends its transactions on every exit of a
            # block and discards a connection that fails to do so.
            pool_reset_on_return=None,
            pool_use_lifo=True,  # surplus connections age and are recycled
        )

    async def close(self, engine: AsyncEngine) -> None:
        await engine.dispose()

    async def insert_if_absent(
        self,
        connection: AsyncConnection,
        table: Table,
        row: Mapping[str, Any],
        computed: Mapping[str, ColumnElement[Any]] = NOTHING,
    ) -> bool:
        # Not INSERT IGNORE: it would also ignore a missing drive and truncate values. A duplicate
        # rolls back only its statement; the transaction continues.
        statement = insert(table)
        if computed:
            statement = statement.values(**computed)
        try:
            await connection.execute(statement, dict(row))
        except IntegrityError as error:
            if code_of(error.orig) == DUPLICATE_KEY:
                return False
            raise
        return True

    async def commit_batch(self, engine: AsyncEngine, steps: Sequence[Step]) -> bool:
        if not self._accepts_batches:
            return False
        try:
            return await self._run_batch(engine, steps)
        except DBAPIError as error:
            # The error closed the session, which rolled back the batch. The batch itself may be
            # what the server refuses; then the single statements succeed.
            code = code_of(error.orig)
            if code in PACKET_REFUSED:
                self._accepts_batches = False
                _log.warning("catalogue.batches_disabled", code=code)
                return False
            if self.fault_of(error) is Fault.DEFECT:
                return False
            raise

    async def _run_batch(self, engine: AsyncEngine, steps: Sequence[Step]) -> bool:
        # One packet instead of one per step and one for COMMIT. The server stops at the first
        # failing statement and skips the rest, including COMMIT.
        async with _pooled_connection(engine) as connection:
            packet = packet_of(engine.dialect, steps, connection.escape)
            try:
                await connection.run_all(packet, len(steps) + 1)
            except aiomysql.IntegrityError as error:
                if code_of(error) not in (DUPLICATE_KEY, NULL_REFUSED):
                    raise
                await connection.rollback()
                return False
        return True

    def insert_or_lock(self, table: Table) -> Insert:
        # A plain INSERT takes a shared lock on a duplicate; of several transactions that then write
        # the row, all but one are deadlock victims. This statement takes an exclusive lock.
        key = next(iter(table.primary_key.columns))
        return mysql.insert(table).on_duplicate_key_update({key.name: key})

    def now(self) -> ColumnElement[float]:
        # UTC, independent of the time zone of server and session.
        return literal_column(
            "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))", Micros()
        )

    def writer(self) -> AbstractAsyncContextManager[Any]:
        return nullcontext()  # the server isolates writers of one row

    @asynccontextmanager
    async def migration_lock(self, connection: AsyncConnection) -> AsyncIterator[None]:
        # The server commits each DDL statement, so a transaction cannot exclude a second migration.
        # A named lock lasts as long as its session.
        seconds = self._options.migration_lock_seconds
        # The server's spelling of the name: its settings may have lowercased it.
        database = (await connection.execute(text("SELECT DATABASE()"))).scalar_one()
        lock = migration_lock_of(database)
        query = text("SELECT GET_LOCK(:lock, :seconds)")
        if (await connection.execute(query, {"lock": lock, "seconds": seconds})).scalar_one() != 1:
            raise Unavailable(
                "MIGRATION_IN_PROGRESS",
                f"Another process has been migrating the catalogue's database for {seconds} s;"
                " wait for it to end, then try again.",
                retry_after_seconds=float(seconds),
            )
        yield
        # The revision is committed before the next run may read it. DDL commits by itself, the
        # update of the version does not.
        await connection.execute(text("COMMIT"))
        # Not in a `finally`: a failure closes the session, which releases the lock.
        await connection.execute(text("DO RELEASE_LOCK(:lock)"), {"lock": lock})

    async def check_server(self, connection: AsyncConnection) -> None:
        dialect = connection.dialect
        version: tuple[int, ...] = tuple(
            number for number in dialect.server_version_info or () if isinstance(number, int)
        )
        mariadb = bool(getattr(dialect, "is_mariadb", False))
        oldest = _OLDEST_MARIADB if mariadb else _OLDEST_MYSQL
        if version < oldest:
            raise FailedPrecondition(
                "CATALOGUE_SERVER_TOO_OLD",
                "The catalogue's server is too old for this release; its operator has to upgrade"
                " it.",
                log_detail=f"it is {'MariaDB' if mariadb else 'MySQL'}"
                f" {'.'.join(map(str, version))}; use {'.'.join(map(str, oldest))} or later",
            )

    def fault_of(self, error: DBAPIError) -> Fault:
        return (
            Fault.UNAVAILABLE
            if error.connection_invalidated
            else fault_of_code(code_of(error.orig))
        )

    def describe_denial(self, error: DBAPIError) -> str:
        where = f"{self._url.host or 'localhost'}:{self._url.port or _DEFAULT_PORT}"
        if code_of(error.orig) == UNKNOWN_DATABASE:
            return f"the server at {where} has no database {self._url.database!r}; create it first"
        if code_of(error.orig) == TLS_FAILED:
            problem = certificate_problem(error.orig, "the URL, ?ssl_ca=PATH")
            if problem is not None:
                return f"the certificate of the server at {where} {problem}"
            return f"the server at {where} offers no TLS; set it up there"
        return (
            f"the server at {where} does not let {self._url.username!r} use the database"
            f" {self._url.database!r}; check user, password and rights"
        )

    async def _connect(self) -> MysqlConnection:
        """Return a connection that is ready for use.

        The timeout includes authentication; the driver's own covers only the TCP handshake.
        """
        url, options = self._url, self._options
        connection = MysqlConnection(
            host=url.host or "localhost",
            port=url.port or _DEFAULT_PORT,
            unix_socket=url.query.get("unix_socket"),
            user=url.username,
            password=url.password or "",
            db=url.database,
            charset="utf8mb4",
            # An UPDATE counts the matched rows, including unchanged ones.
            client_flag=CLIENT.FOUND_ROWS,
            ssl=self._tls,
            program_name="sluice",
            init_command=f"SET SESSION sql_mode = '{_SQL_MODE}', SESSION time_zone = '+00:00',"
            f" SESSION innodb_lock_wait_timeout = {int(options.lock_wait_seconds)}",
        )
        try:
            async with asyncio.timeout(options.connect_timeout_seconds):
                await connection.ping()  # connects first
        except TimeoutError as error:
            connection.close()
            raise aiomysql.OperationalError(2003, "no connection in time") from error
        except BaseException as error:
            connection.close()
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise aiomysql.OperationalError(TLS_FAILED, "not to be trusted") from error
            raise
        return connection


def migration_lock_of(database: str) -> str:
    """Return the name of the migration lock of this database.

    Named locks belong to the server, not to a database, and have at most 64 characters. The digest
    is computed here, because MySQL has no MD5() since 9.6. It stays MD5, because older releases use
    MD5() on the server and must not migrate at the same time.
    """
    digest = hashlib.md5(database.encode(), usedforsecurity=False).hexdigest()
    return f"sluice.migrate.{digest}"


@asynccontextmanager
async def _pooled_connection(engine: AsyncEngine) -> AsyncIterator[MysqlConnection]:
    """Yield a pooled driver connection; close it when the block raises."""
    try:
        pooled = await engine.raw_connection()
        try:
            yield cast(MysqlConnection, pooled.driver_connection)
        except BaseException:
            pooled.invalidate()
            raise
        pooled.close()
    except aiomysql.MySQLError as error:
        raise DBAPIError(None, None, error) from error


def _tls_context(url: URL) -> ssl.SSLContext | None:
    query = {name: str(value) for name, value in url.query.items()}
    ssl_mode = query.get("ssl", "false").lower()
    if ssl_mode not in ("true", "false"):
        raise _bad_url("has an ssl that is neither true nor false")
    files = {name: query[name] for name in ("ssl_ca", "ssl_cert", "ssl_key") if name in query}
    if ssl_mode == "false" and not files:
        return None
    try:
        context = ssl.create_default_context(cafile=files.get("ssl_ca"))
        if "ssl_cert" in files:
            context.load_cert_chain(files["ssl_cert"], files.get("ssl_key"))
    except OSError as error:  # ssl.SSLError is one
        raise _bad_url(f"names certificates that cannot be loaded ({type(error).__name__})") from (
            error
        )
    return context


def _known_query() -> str:
    return f"it may have {', '.join(sorted(_QUERY))}"


def _bad_url(what: str) -> FailedPrecondition:
    # The URL may contain a password, so it is not repeated.
    return FailedPrecondition(
        "CATALOGUE_URL_UNSUPPORTED",
        f"The catalogue's URL {what}; use one like mysql+aiomysql://USER:PASSWORD@HOST/DATABASE.",
    )
