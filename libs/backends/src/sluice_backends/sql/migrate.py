"""Migration of a database to the schema of this release."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
)

from sluice_backends.sql.database import Database, open_database
from sluice_backends.sql.options import MysqlOptions
from sluice_backends.sql.schema import metadata
from sluice_core.errors import FailedPrecondition

_ENVIRONMENT = Path(__file__).parent / "migrations"
_VERSION_TABLE = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's record of the revision, as Alembic declares it."""


@dataclass(frozen=True, slots=True)
class Migration:
    """Result of `migrate`: the new revision and the applied ones in order."""

    revision: str
    applied: tuple[str, ...]


async def migrate(
    url: str, *, accept_newer: bool = False, mysql: MysqlOptions | None = None
) -> Migration:
    """Apply the migrations that the database lacks; a no-op when there are none.

    Runs exclude each other: a second one waits and then has nothing to do. On SQLite a run is one
    transaction. MySQL commits every DDL statement separately, so a run that dies leaves a partial
    migration. Every step is therefore idempotent (`migrations/steps.py`), and the next run resumes.

    Args:
        accept_newer: accept the schema of a newer release instead of raising SCHEMA_TOO_NEW. Set it
            at start, because during a rollout the previous release keeps running and restarting.

    Raise `FailedPrecondition` SCHEMA_TOO_NEW, before anything is changed, for a database that a
    newer release migrated; CATALOGUE_URL_UNSUPPORTED, CATALOGUE_SERVER_TOO_OLD. Raise `Unavailable`
    CATALOGUE_UNAVAILABLE, CATALOGUE_ACCESS_DENIED or MIGRATION_IN_PROGRESS.
    """
    known = await asyncio.to_thread(_known_revisions)
    async with open_database(url, mysql=mysql) as database, database.write() as connection:
        await database.dialect.check_server(connection)
        async with database.dialect.migration_lock(connection):
            return await connection.run_sync(_upgrade, known, accept_newer)


async def check_schema(database: Database) -> None:
    """Raise `FailedPrecondition` SCHEMA_TOO_OLD for an older schema than this release's.

    Raise CATALOGUE_SERVER_TOO_OLD for an unsupported server. A newer schema is accepted: migrations
    only add, so during a rollout the previous release keeps running on the next schema.
    """
    known = await asyncio.to_thread(_known_revisions)
    async with database.read() as connection:
        await database.dialect.check_server(connection)
        current = await connection.run_sync(_current_revision)
    if current is None or (current in known and current != known[0]):
        raise FailedPrecondition(
            "SCHEMA_TOO_OLD",
            "The catalogue's database lacks migrations of this release;"
            " run `sluice-repository migrate`.",
        )


async def missing_migrations(database: Database) -> int:
    """Return how many migrations of this release the database lacks; 0 for a newer schema."""
    known = await asyncio.to_thread(_known_revisions)
    async with database.read() as connection:
        current = await connection.run_sync(_current_revision)
    if current is None:
        return len(known)
    return known.index(current) if current in known else 0


def _upgrade(connection: Connection, known: Sequence[str], accept_newer: bool) -> Migration:
    current = _current_revision(connection)
    if current == known[0]:
        return Migration(current, ())
    if current is not None and current not in known:
        if accept_newer:
            return Migration(current, ())
        raise FailedPrecondition(
            "SCHEMA_TOO_NEW",
            "A newer release has migrated the catalogue's database; run that release, or restore"
            " a copy from before.",
        )
    missing = known if current is None else known[: known.index(current)]
    if connection.dialect.name == "sqlite" and not inspect(connection).get_table_names():
        _create_schema(connection, known[0])
    else:
        run_migrations(connection, known[0])
    return Migration(known[0], tuple(reversed(missing)))


def _create_schema(connection: Connection, revision: str) -> None:
    """Create the newest schema in an empty database, without the history of its migrations.

    Only on SQLite, where a migration is one transaction: elsewhere a run that dies would leave
    tables that look like another release's. A test compares the result with that of the migrations.
    """
    metadata.create_all(connection, checkfirst=False)
    _VERSION_TABLE.create(connection)
    connection.execute(insert(_VERSION_TABLE).values(version_num=revision))


def run_migrations(connection: Connection, revision: str) -> None:
    """Run the migrations up to this revision, in the caller's transaction."""
    # Imported only where there is something to migrate: Alembic brings every dialect of SQLAlchemy
    # and a template engine.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _current_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION_TABLE.name):
        return None
    return connection.execute(select(_VERSION_TABLE.c.version_num)).scalar_one_or_none()


@cache
def _known_revisions() -> Sequence[str]:
    """Return the revisions of this release, newest first: the numbers that their files begin with.

    A test compares them with the revisions that the files declare.
    """
    files = (_ENVIRONMENT / "versions").glob("[0-9]*_*.py")
    return tuple(sorted((file.name.partition("_")[0] for file in files), reverse=True))
