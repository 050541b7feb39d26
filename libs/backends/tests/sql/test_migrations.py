"""Migrations make the schema that the code expects, once, and refuse a newer one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateTable

from sluice_backends.sql.catalogue import open_catalogue
from sluice_backends.sql.migrate import migrate
from sluice_backends.sql.schema import metadata
from sluice_core.errors import FailedPrecondition


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "100% mine.db"  # ini files give a percent sign a meaning


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


def described(engine: Engine) -> dict[str, object]:
    """Everything about the tables that SQLite tells, apart from Alembic's own."""
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


async def test_migrations_and_schema_describe_the_same_tables(
    url: str, engine: Engine, tmp_path: Path
) -> None:
    await migrate(url)
    fresh = create_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    metadata.create_all(fresh)
    assert described(engine) == described(fresh)
    assert set(described(engine)) == set(metadata.tables)
    fresh.dispose()


async def test_autogenerate_finds_nothing_to_add(url: str, engine: Engine) -> None:
    await migrate(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


async def test_migrating_again_changes_nothing(url: str, engine: Engine) -> None:
    await migrate(url)
    before = described(engine)
    await migrate(url)
    assert described(engine) == before


async def test_two_that_migrate_at_once_take_turns(url: str, engine: Engine) -> None:
    await asyncio.gather(migrate(url), migrate(url))
    assert set(described(engine)) == set(metadata.tables)


async def test_a_fresh_file_that_another_writes_to_is_waited_for(url: str, path: Path) -> None:
    """It is not in WAL mode yet, and SQLite refuses the switch to it instead of waiting."""
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


async def test_a_database_of_a_newer_release_is_left_alone(url: str, path: Path) -> None:
    await migrate(url)
    set_revision(path, "9999")
    before = path.read_bytes()
    with pytest.raises(FailedPrecondition, match="SCHEMA_TOO_NEW"):
        await migrate(url)
    assert path.read_bytes() == before


async def test_the_release_before_runs_on_the_schema_of_the_next(url: str, path: Path) -> None:
    await migrate(url)
    set_revision(path, "9999")
    async with open_catalogue(url) as catalogue:
        await catalogue.ping()


async def test_a_database_that_was_not_migrated_is_not_opened(url: str) -> None:
    with pytest.raises(FailedPrecondition, match="SCHEMA_TOO_OLD"):
        async with open_catalogue(url):
            pass


@pytest.mark.parametrize("dialect_name", ["mysql", "mariadb"])
def test_the_schema_is_good_for_mysql_and_mariadb(dialect_name: str) -> None:
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
