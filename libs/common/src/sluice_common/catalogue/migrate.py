"""Bringing a database to the schema of this release."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from sluice_common.catalogue.database import Database, open_database, vendor_errors
from sluice_common.errors import FailedPrecondition

_ENVIRONMENT = Path(__file__).parent / "migrations"


async def migrate(url: str) -> None:
    """Apply the migrations that the database lacks; harmless when there are none.

    The whole run is one write transaction, which on SQLite is the lock against a second one: it
    waits, and then finds nothing left to do. (A database whose DDL commits by itself needs a
    named lock in its place: `Dialect.writer` is where to take it.)

    Raises `FailedPrecondition` SCHEMA_TOO_NEW, before anything is changed, for a database that a
    newer release has migrated.
    """
    config = _config()
    known = await asyncio.to_thread(_known_revisions, config)
    async with open_database(url) as database, database.write() as connection:
        await connection.run_sync(_upgrade, config, known)


async def check_schema(database: Database) -> None:
    """Raise `FailedPrecondition` SCHEMA_TOO_OLD unless the database has this release's schema.

    A newer one is accepted: migrations only add, so that during a rollout the release before
    keeps running, and restarting, on the schema of the next.
    """
    known = await asyncio.to_thread(_known_revisions, _config())
    with vendor_errors():
        async with database.read() as connection:
            current = await connection.run_sync(_current_revision)
    if current is None or (current in known and current != known[0]):
        raise FailedPrecondition(
            "SCHEMA_TOO_OLD",
            "The catalogue's database lacks migrations of this release; migrate it first.",
        )


def _upgrade(connection: Connection, config: Config, known: list[str]) -> None:
    current = _current_revision(connection)
    if current is not None and current not in known:
        raise FailedPrecondition(
            "SCHEMA_TOO_NEW",
            "A newer release has migrated the catalogue's database; run that release, or restore"
            " a copy from before.",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _current_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _known_revisions(config: Config) -> list[str]:
    """The revisions of this release, newest first."""
    scripts = ScriptDirectory.from_config(config)
    return [script.revision for script in scripts.walk_revisions()]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT).replace("%", "%%"))
    return config
