"""Interface to the differences between databases: row locks, clock and errors."""

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
"""Execution option that marks an engine for write transactions."""


@dataclass(frozen=True, slots=True)
class Step:
    """A statement that changes rows and returns none, with the values of its parameters."""

    statement: Insert | Delete
    values: Mapping[str, Any]
    if_changed: bool = False
    """Fail if the previous step changed no row. For an INSERT whose first column is NOT NULL."""


NOTHING: Mapping[str, ColumnElement[Any]] = MappingProxyType({})


class Fault(Enum):
    """Class of a driver error."""

    UNAVAILABLE = auto()
    """The database does not respond; a later retry may succeed."""
    CONTENDED = auto()
    """The transaction was rolled back in favour of another one; retry immediately."""
    ACCESS_DENIED = auto()
    """The server denies access, or has no such database."""
    DAMAGED = auto()
    DEFECT = auto()
    """An invalid statement: a defect of this code."""


class Dialect(Protocol):
    """Operations that differ between databases.

    The rest of the catalogue is SQL that all of them accept. That includes `FOR UPDATE`, which
    SQLAlchemy omits for SQLite, where writers exclude each other anyway.
    """

    deadline_seconds: float | None
    """Time limit of a read or transaction; None for a local database."""

    one_writer: bool
    """Whether write transactions exclude each other, so that row locks are not needed."""

    def create_engine(self) -> AsyncEngine: ...

    async def close(self, engine: AsyncEngine) -> None:
        """Close all connections of this engine and their resources."""
        ...

    async def insert_if_absent(
        self,
        connection: AsyncConnection,
        table: Table,
        row: Mapping[str, Any],
        computed: Mapping[str, ColumnElement[Any]] = NOTHING,
    ) -> bool:
        """Insert a row and return True, or return False if its primary or unique key is taken.

        Any other failure is an error. `computed` has the columns whose values are expressions.
        """
        ...

    async def commit_batch(self, engine: AsyncEngine, steps: Sequence[Step]) -> bool:
        """Run a transaction of these steps in one round trip.

        Return False, with nothing done, when a primary or unique key is taken, when the
        `if_changed` of a step fails, when the server refuses batches, and always for a local
        database.
        """
        ...

    def insert_or_lock(self, table: Table) -> Insert:
        """Return a statement that inserts a row, or locks the one with its primary key.

        Read the row to find out which.
        """
        ...

    def now(self) -> ColumnElement[float]:
        """Return the clock of leases: the server's, if there is a server."""
        ...

    def writer(self) -> AbstractAsyncContextManager[Any]:
        """Return the lock held during every write transaction of this process."""
        ...

    def migration_lock(self, connection: AsyncConnection) -> AbstractAsyncContextManager[None]:
        """Return the lock held during a migration; it excludes concurrent migrations."""
        ...

    async def check_server(self, connection: AsyncConnection) -> None:
        """Raise `FailedPrecondition` CATALOGUE_SERVER_TOO_OLD for an unsupported server."""
        ...

    def fault_of(self, error: DBAPIError) -> Fault: ...

    def describe_denial(self, error: DBAPIError) -> str:
        """Return the cause of a denied access in one line for operators, without the password."""
        ...


def unsupported(url: URL) -> FailedPrecondition:
    return FailedPrecondition(
        "CATALOGUE_URL_UNSUPPORTED",
        f"The catalogue cannot be kept in {url.get_backend_name()!r}; use a sqlite:/// URL that"
        " names a file, or mysql+aiomysql://USER:PASSWORD@HOST/DATABASE.",
    )
