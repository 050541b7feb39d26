"""Embedded ledger of one machine: SQLite in WAL mode, durable across `kill -9`, and across power
loss with `fsync`. It runs the shared rules."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from sluice_backends.embedded.ledger.schema import prepare
from sluice_backends.embedded.ledger.store import SqliteStore
from sluice_backends.embedded.ledger.thread import LedgerThread
from sluice_core.ledger.budget import Budget
from sluice_core.ledger.options import Clock, LedgerOptions
from sluice_core.ledger.store import Session
from sluice_core.ledger.transactional import Rule, TransactionalLedger

P = ParamSpec("P")
T = TypeVar("T")


@asynccontextmanager
async def open_sqlite_ledger(
    path: Path, options: LedgerOptions, *, fsync: bool, clock: Clock = time.time
) -> AsyncIterator[SqliteLedger]:
    """Open the ledger in the file `path`, created if missing; one process at a time.

    Raise `FailedPrecondition` LEDGER_FORMAT when another release wrote the file, and `Unavailable`
    LEDGER_UNAVAILABLE when it cannot be opened.
    """
    file = _LedgerFile(options, clock)
    thread = LedgerThread(path, fsync=fsync, owner=file)
    try:
        await thread.open()
        yield SqliteLedger(file, thread)
    finally:
        await thread.close()


class SqliteLedger(TransactionalLedger):
    """`UploadLedger` in a file. Created by `open_sqlite_ledger`; belongs to one event loop."""

    def __init__(self, file: _LedgerFile, thread: LedgerThread) -> None:
        super().__init__(file.session)
        self._thread = thread
        file.announce = self._announce

    async def _run(self, rule: Rule[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, await self._thread.run(partial(rule, self._session, *args, **kwargs)))


class _LedgerFile:
    """Session on the ledger's thread: schema, identity, and the budget computed from the rows."""

    session: Session

    def __init__(self, options: LedgerOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._store: SqliteStore
        self.announce: Callable[[list[str]], None] = _ignore

    def opened(self, connection: sqlite3.Connection) -> None:
        nonce = prepare(connection)
        self._store = SqliteStore(connection)
        self._store.drop_holds()
        budget = Budget(self._options)
        budget.replace_queued(self._store.queued())
        self.session = Session(self._store, budget, self._options, nonce, self._clock)

    def rolled_back(self) -> None:
        self._store.rolled_back()
        self.session.budget.replace_queued(self._store.queued())

    def group_ended(self) -> Callable[[], None]:
        touched, self.session.touched = self.session.touched, []
        return partial(self.announce, touched)


def _ignore(touched: list[str]) -> None:
    """No-op: there are no listeners before the ledger is open."""
