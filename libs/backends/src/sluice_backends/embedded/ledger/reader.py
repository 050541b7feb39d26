"""Reader of an embedded ledger's file beside the process that uses it, or without one."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import quote

from sluice_backends.embedded.ledger.schema import check_format
from sluice_backends.embedded.ledger.store import SqliteStore
from sluice_core.concurrency.cancellation import finish_despite_cancel
from sluice_core.errors import Unavailable
from sluice_core.ledger.budget import Budget
from sluice_core.ledger.options import Clock, LedgerOptions
from sluice_core.ledger.store import Session
from sluice_core.ledger.transactional import Rule, TransactionalLedger

P = ParamSpec("P")
T = TypeVar("T")

_WAIT_SECONDS = 5.0


@asynccontextmanager
async def open_sqlite_ledger_reader(
    path: Path, options: LedgerOptions, *, clock: Clock = time.time
) -> AsyncIterator[SqliteLedgerReader]:
    """Open the ledger in the file `path` for reads.

    Write-ahead logging lets it read a consistent state while the owner writes. It takes no lock
    that the owner waits for, and leaves the owner's claims alone. It has no budget: its backlog
    counts no bytes.

    Raise `FailedPrecondition` LEDGER_FORMAT when another release wrote the file, and `Unavailable`
    LEDGER_UNAVAILABLE when it cannot be read.
    """
    with _sqlite_errors():
        connection = await asyncio.to_thread(_connect, path)
    with closing(connection):
        with _sqlite_errors():
            nonce = await asyncio.to_thread(check_format, connection)
        store = SqliteStore(connection)
        yield SqliteLedgerReader(
            Session(store, Budget(options), options, nonce, clock), connection, store
        )


class SqliteLedgerReader(TransactionalLedger):
    """`UploadLedger` whose changes raise `Unavailable` LEDGER_UNAVAILABLE: the file is open for
    reads only. Created by `open_sqlite_ledger_reader`."""

    def __init__(
        self, session: Session, connection: sqlite3.Connection, store: SqliteStore
    ) -> None:
        super().__init__(session)
        self._connection = connection
        self._store = store
        self._turn = asyncio.Lock()

    async def _run(self, rule: Rule[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = partial(rule, self._session, *args, **kwargs)
        async with self._turn:
            reading = asyncio.create_task(asyncio.to_thread(self._read, call))
            try:
                return await asyncio.shield(reading)
            except asyncio.CancelledError:
                # The thread goes on, and the turn is its own until it has ended.
                self._connection.interrupt()
                await finish_despite_cancel(asyncio.wait({reading}))
                raise
            finally:
                if reading.done() and not reading.cancelled():
                    reading.exception()  # seen, also where the cancellation is raised

    def _read(self, call: Callable[[], T]) -> T:
        with _sqlite_errors():
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")  # that of a cancelled read was interrupted
            self._connection.execute("BEGIN")
            try:
                return call()
            finally:
                self._connection.execute("ROLLBACK")
                # The owner may purge an upload and reuse its id.
                self._store.rolled_back()


def _connect(path: Path) -> sqlite3.Connection:
    # One thread at a time uses it, under the reader's lock.
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=ro",
        uri=True,
        timeout=_WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


@contextmanager
def _sqlite_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unavailable(
            "LEDGER_UNAVAILABLE",
            "The ledger's file cannot be read; see the reason in the log of this command.",
            log_detail=f"{type(error).__name__}: {error}",
        ) from error
