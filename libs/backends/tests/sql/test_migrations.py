"""Tests of migrations on SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateTable

from sluice_backends.sql import migrate as migrate_module
from sluice_backends.sql.catalogue import open_catalogue
from sluice_backends.sql.database import open_database
from sluice_backends.sql.migrate import Migration, migrate, run_migrations
from sluice_backends.sql.schema import metadata
from sluice_core.errors import FailedPrecondition


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "100% mine.db"  # a percent sign is special in ini files


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


def describe_tables(engine: Engine) -> dict[str, object]:
    """Return SQLite's description of all tables except Alembic's."""
    inspector = inspect(engine)
    return {
        table: (
            [{**column, "type": str(column["type"])} for column in inspector.get_columns(table)],
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted(inspector.get_indexes(table), key=lambda index: str(index["name"])),
            sorted(
                (str(key["constrained_columns"]), key["referred_table"])
                for key in inspector.get_foreign_keys(table)
            ),
            inspector.get_unique_constraints(table),
            "AUTOINCREMENT" in stored_sql(engine, table),
            "WITHOUT ROWID" in stored_sql(engine, table),
        )
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def stored_sql(engine: Engine, table: str) -> str:
    with engine.connect() as connection:
        query = "SELECT sql FROM sqlite_master WHERE name = ?"
        return str(connection.exec_driver_sql(query, (table,)).scalar_one())


async def migrate_from_first(url: str) -> Migration:
    """Migrate a database of the first revision: a new one gets the newest schema at once."""
    async with open_database(url) as database, database.write() as connection:
        await connection.run_sync(run_migrations, "0001")
    return await migrate(url)


def revisions(engine: Engine) -> list[tuple[str]]:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
        return [(str(revision),) for (revision,) in rows]


async def test_new_database_equals_migrated_one(url: str, engine: Engine, tmp_path: Path) -> None:
    migrated = await migrate_from_first(url)
    new_url = f"sqlite:///{tmp_path / 'new.db'}"
    new, new_engine = await migrate(new_url), create_engine(new_url)
    assert describe_tables(engine) == describe_tables(new_engine)
    assert set(describe_tables(engine)) == set(metadata.tables)
    assert stored_sql(engine, "alembic_version").split() == (
        stored_sql(new_engine, "alembic_version").split()
    )
    assert revisions(engine) == revisions(new_engine) == [(new.revision,)]
    assert new == Migration(migrated.revision, ("0001", *migrated.applied))
    new_engine.dispose()


async def test_applied_revisions_are_those_of_alembic(url: str) -> None:
    """`migrate` reads them from the names of the files, without Alembic."""
    scripts = ScriptDirectory(str(Path(migrate_module.__file__).parent / "migrations"))
    declared = [script.revision for script in scripts.walk_revisions()]
    assert (await migrate(url)).applied == tuple(reversed(declared))


async def test_database_with_tables_and_no_revision_is_migrated(url: str, engine: Engine) -> None:
    """So is what remains of an import that was broken off: only an empty one is created."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (text TEXT)")
    await migrate(url)
    assert set(describe_tables(engine)) == {*metadata.tables, "notes"}


async def test_autogenerate_finds_nothing_to_add(url: str, engine: Engine) -> None:
    await migrate_from_first(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


async def test_repeated_migration_is_a_no_op(url: str, engine: Engine) -> None:
    await migrate(url)
    before = describe_tables(engine)
    await migrate(url)
    assert describe_tables(engine) == before


async def test_concurrent_migrations_run_one_at_a_time(url: str, engine: Engine) -> None:
    await asyncio.gather(migrate(url), migrate(url))
    assert set(describe_tables(engine)) == set(metadata.tables)


async def test_migration_waits_for_writer_of_new_file(url: str, path: Path) -> None:
    """The file is not in WAL mode yet, and SQLite rejects the switch instead of waiting."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            switch_to_wal(path)
        async with asyncio.timeout(9), asyncio.TaskGroup() as group:
            migration = group.create_task(migrate(url))
            await asyncio.sleep(0.2)
            assert not migration.done()
            other.execute("COMMIT")
    assert migration.result().applied


async def test_newer_database_is_rejected_unchanged(url: str, path: Path) -> None:
    await migrate(url)
    set_revision(path, "9999")
    before = path.read_bytes()
    with pytest.raises(FailedPrecondition, match="SCHEMA_TOO_NEW"):
        await migrate(url)
    assert path.read_bytes() == before


async def test_previous_release_opens_newer_schema(url: str, path: Path) -> None:
    await migrate(url)
    set_revision(path, "9999")
    async with open_catalogue(url) as catalogue:
        await catalogue.ping()


async def test_unmigrated_database_is_rejected(url: str) -> None:
    with pytest.raises(FailedPrecondition, match="SCHEMA_TOO_OLD"):
        async with open_catalogue(url):
            pass


@pytest.mark.parametrize("dialect_name", ["mysql", "mariadb"])
def test_schema_compiles_for_mysql_and_mariadb(dialect_name: str) -> None:
    dialect = mysql.dialect()
    dialect.name = dialect_name
    tables = {
        name: str(CreateTable(t).compile(dialect=dialect)) for name, t in metadata.tables.items()
    }
    indexes = [
        str(CreateIndex(index).compile(dialect=dialect))
        for table in metadata.tables.values()
        for index in table.indexes
    ]
    assert "path VARBINARY(1024) NOT NULL" in tables["paths"]
    assert "row_id BIGINT NOT NULL AUTO_INCREMENT" in tables["outbox"]
    assert all("utf8mb4_bin" in statement for statement in tables.values())
    assert any("(object_key, bucket)" in statement for statement in indexes)


def switch_to_wal(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=9)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def set_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
