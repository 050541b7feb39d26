"""Where databases differ: how a row is claimed, whose clock counts, what an error means.

Everything else of the catalogue is SQL that all of them take alike (`FOR UPDATE` included:
SQLAlchemy leaves it out for SQLite, whose writers exclude each other anyway).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Protocol

from sqlalchemy import URL, ColumnElement, Delete, Insert, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sluice_core.errors import FailedPrecondition

WRITE_OPTION = "sluice_write"
"""Execution option of an engine whose transactions write."""


@dataclass(frozen=True, slots=True)
class Step:
    """A statement that changes rows and answers nothing, with values for its parameters."""

    statement: Insert | Delete
    values: Mapping[str, Any]
    if_changed: bool = False
    """Fails when the step before it has changed no row. For an INSERT whose first value is of a
    column that is never NULL."""


NOTHING: Mapping[str, ColumnElement[Any]] = MappingProxyType({})


class Fault(Enum):
    """What an error of the driver asks for."""

    UNAVAILABLE = auto()
    """The database does not answer; the same call may work later."""
    CONTENDED = auto()
    """Another transaction was in the way, and this one was undone: it can be repeated at once."""
    ACCESS_DENIED = auto()
    """The database does not let us in, or has no such database."""
    DAMAGED = auto()
    DEFECT = auto()
    """A statement that cannot work: ours to mend."""


class Dialect(Protocol):
    """What one kind of database does in its own way."""

    deadline_seconds: float | None
    """No read and no transaction takes longer; None when nothing remote is waited for."""

    one_writer: bool
    """Whether a write transaction excludes every other one, so that no row need be locked."""

    def create_engine(self) -> AsyncEngine: ...

    async def close(self, engine: AsyncEngine) -> None:
        """Close every connection of this engine, and what belongs to it."""
        ...

    async def insert_if_absent(
        self,
        connection: AsyncConnection,
        table: Table,
        row: Mapping[str, Any],
        computed: Mapping[str, ColumnElement[Any]] = NOTHING,
    ) -> bool:
        """Insert unless the primary or a unique key is taken; whether it did. Every other reason
        not to insert is an error. `computed`: columns whose values are expressions."""
        ...

    async def commit_batch(self, engine: AsyncEngine, steps: Sequence[Step]) -> bool:
        """A transaction of these steps in one exchange with the database. False, with nothing
        done, when a primary or unique key was taken, when a step failed by its `if_changed`, when
        the database would not have them together, and always where nothing is gained by it."""
        ...

    def insert_or_lock(self, table: Table) -> Insert:
        """Insert, or lock the row that has the primary key, so that it is this transaction's to
        read and change. Says nothing about which; the row does."""
        ...

    def now(self) -> ColumnElement[float]:
        """The time by which leases run: the database's, where it has one of its own."""
        ...

    def writer(self) -> AbstractAsyncContextManager[Any]:
        """Held around every write transaction of this process."""
        ...

    def migration_lock(self, connection: AsyncConnection) -> AbstractAsyncContextManager[None]:
        """Held around a migration on this connection: nobody else migrates meanwhile."""
        ...

    async def check_server(self, connection: AsyncConnection) -> None:
        """Raise `FailedPrecondition` CATALOGUE_SERVER_TOO_OLD for one that lacks what the
        catalogue's promises need."""
        ...

    def fault_of(self, error: DBAPIError) -> Fault: ...

    def describe_denial(self, error: DBAPIError) -> str:
        """For an operator, in one line and without the password: why we are not let in."""
        ...


def unsupported(url: URL) -> FailedPrecondition:
    return FailedPrecondition(
        "CATALOGUE_URL_UNSUPPORTED",
        f"The catalogue cannot be kept in {url.get_backend_name()!r}; use a sqlite:/// URL that"
        " names a file, or mysql+aiomysql://USER:PASSWORD@HOST/DATABASE.",
    )
