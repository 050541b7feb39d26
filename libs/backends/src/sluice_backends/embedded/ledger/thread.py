"""Thread that owns the ledger's SQLite connection and commits steps in groups."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import structlog

from sluice_core.errors import SluiceError, Unavailable

_MAX_GROUP_STEPS = 512
_MAX_WAITING_STEPS = 8_192

_log = structlog.get_logger()


class GroupOwner(Protocol):
    """Owner of the steps. Its methods are called on the thread."""

    def opened(self, connection: sqlite3.Connection) -> None:
        """Prepare the opened connection; raise when the file is unusable."""
        ...

    def rolled_back(self) -> None:
        """Drop cached state, because a step or a group was rolled back."""
        ...

    def group_ended(self) -> Callable[[], None]:
        """Return a callback to run on the event loop after the group's commit."""
        ...


@dataclass(slots=True, eq=False)
class _Step:
    call: Callable[[], Any]
    done: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class LedgerThread:
    """Runner of steps, in order. A submitted step runs even if its caller is cancelled.

    Steps wait in a queue. The thread takes all waiting steps, runs each in a savepoint, commits
    once and only then resolves their futures: one fsync acknowledges many chunks, and no result
    is returned before it is durable. A failed step rolls back only itself; a failed commit fails
    the whole group.
    """

    def __init__(self, path: Path, *, fsync: bool, owner: GroupOwner) -> None:
        self._path = path
        self._fsync = fsync
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._steps: SimpleQueue[_Step | None] = SimpleQueue()
        self._room = asyncio.Semaphore(_MAX_WAITING_STEPS)
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed = False
        self._stale = False
        self._thread = threading.Thread(target=self._main, name="sluice-ledger", daemon=True)

    async def open(self) -> None:
        """Start the thread; raise the error of the owner's `opened`, or `Unavailable`."""
        self._thread.start()
        await self._opened

    async def close(self) -> None:
        """Finish waiting steps and stop the thread."""
        if not self._closed:
            self._closed = True
            self._steps.put(None)
        await asyncio.to_thread(self._thread.join)

    async def run(self, call: Callable[[], Any]) -> Any:
        """Return the result of `call` after its commit."""
        async with self._room:
            if self._closed:
                raise Unavailable("LEDGER_CLOSED", "The server is stopping; try another one.")
            done: asyncio.Future[Any] = self._loop.create_future()
            self._steps.put(_Step(call, done))
            return await done

    # -- on the thread

    def _main(self) -> None:
        try:
            connection = self._connect()
        except (sqlite3.Error, OSError) as error:
            self._call_on_loop(self._set_open_failed, _unavailable(error))
            return
        except SluiceError as error:
            self._call_on_loop(self._set_open_failed, error)
            return
        self._call_on_loop(self._set_opened)
        try:
            stopping = False
            while not stopping:
                group, stopping = self._next_group()
                if group:
                    self._run_group(connection, group)
        finally:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, cached_statements=256)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: the log is on disk before a commit returns; NORMAL: it survives kill -9 only.
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._fsync else 'NORMAL'}")
            connection.execute("PRAGMA busy_timeout = 5000")
            connection.execute("PRAGMA cache_size = -65536")
            self._owner.opened(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _next_group(self) -> tuple[list[_Step], bool]:
        """Return all waiting steps, at least one unless closing, and whether to stop."""
        group: list[_Step] = []
        step = self._steps.get()
        while step is not None:
            group.append(step)
            if len(group) == _MAX_GROUP_STEPS:
                return group, False
            try:
                step = self._steps.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _run_group(self, connection: sqlite3.Connection, group: list[_Step]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for step in group:
                self._run_step(connection, step)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _log.warning("ledger.commit_failed", error=str(error), steps=len(group))
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for step in group:
                step.error = _unavailable(error)
            self._stale = True
        then = self._owner.group_ended()
        self._call_on_loop(_resolve, group, then)

    def _run_step(self, connection: sqlite3.Connection, step: _Step) -> None:
        if self._stale:
            self._owner.rolled_back()
            self._stale = False
        connection.execute("SAVEPOINT step")
        try:
            step.result = step.call()
        except SluiceError as error:
            step.error = error  # no rollback: rules raise before their first change
        except sqlite3.Error as error:
            if not connection.in_transaction:
                raise  # e.g. disk full: SQLite rolled back the whole group
            step.error = _unavailable(error)
            self._undo(connection)
        except Exception as error:  # noqa: BLE001 - a defect fails its caller, not the thread
            step.error = error
            self._undo(connection)
        connection.execute("RELEASE step")

    def _undo(self, connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK TO step")
        self._stale = True

    def _call_on_loop(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The loop is closed: no caller is left.
            _log.warning("ledger.loop_closed")

    # -- on the event loop

    def _set_opened(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _set_open_failed(self, error: SluiceError) -> None:
        self._closed = True
        if not self._opened.done():
            self._opened.set_exception(error)


def _resolve(group: list[_Step], then: Callable[[], None]) -> None:
    for step in group:
        if step.done.done():
            continue  # its caller was cancelled; its change stays: every call is idempotent
        if step.error is not None:
            step.done.set_exception(step.error)
        else:
            step.done.set_result(step.result)
    then()


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(
        "LEDGER_UNAVAILABLE",
        "The server cannot record uploads at the moment; try again.",
        log_detail=f"{type(error).__name__}: {error}",
    )
