"""Tests of migrations on a server that commits each DDL statement."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, Inspector, create_engine, event, inspect
from sqlalchemy.engine.interfaces import ReflectedIndex

from sluice_backends.sql.catalogue import open_catalogue
from sluice_backends.sql.database import open_database
from sluice_backends.sql.migrate import Migration, migrate
from sluice_backends.sql.mysql import dialect as mysql
from sluice_backends.sql.objects import is_intended
from sluice_backends.sql.options import MysqlOptions
from sluice_backends.sql.schema import metadata
from sluice_core.errors import FailedPrecondition, Unavailable
from sluice_core.uploads.model import ObjectRef
from support.mysql_server import MysqlServer

DDL = 61
"""DDL statements of the migrations: 24 tables, 32 indexes, four columns, one key."""
ALL = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
CREATE = ("CREATE", "ALTER")
LOCK_OF_SLUICE = "sluice.migrate.56c4228bc58d4cdf3ff01c3fc6e84189"
REMOVED = re.compile(r"\b(MD5|SHA1?|PASSWORD|ENCRYPT|ENCODE|DES_ENCRYPT)\s*\(", re.IGNORECASE)
EXPLAIN = "EXPLAIN FORMAT=TRADITIONAL"
"""Tabular output, which is no longer the default of MySQL."""


@pytest.fixture
def fresh(server: MysqlServer) -> Iterator[str]:
    """Create an empty database and return its URL."""
    url = server.create_database()
    yield url
    server.run(f"DROP DATABASE {name_of(url)}")


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def plain(url: str) -> str:
    return url.replace("mysql+aiomysql", "mysql+pymysql")


@pytest.fixture
def engine(fresh: str) -> Iterator[Engine]:
    engine = create_engine(plain(fresh))
    yield engine
    engine.dispose()


def describe_tables(engine: Engine) -> dict[str, object]:
    inspector: Inspector = inspect(engine)

    def key(index: ReflectedIndex) -> str:
        return str(index["name"])

    return {
        table: (
            [{**column, "type": repr(column["type"])} for column in inspector.get_columns(table)],
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted(inspector.get_indexes(table), key=key),
            sorted(str(key) for key in inspector.get_foreign_keys(table)),
            inspector.get_table_options(table),
        )
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


async def test_migrations_match_schema(fresh: str, engine: Engine, server: MysqlServer) -> None:
    assert await migrate(fresh) == Migration(ALL[-1], ALL)
    other = server.create_database()
    directly = create_engine(plain(other))
    metadata.create_all(directly)
    assert describe_tables(engine) == describe_tables(directly)
    assert set(describe_tables(engine)) == set(metadata.tables)
    directly.dispose()
    server.run(f"DROP DATABASE {name_of(other)}")


async def test_autogenerate_finds_nothing_to_add(fresh: str, engine: Engine) -> None:
    await migrate(fresh)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.rule(19)
async def test_text_uses_binary_collation_and_paths_are_bytes(
    fresh: str, server: MysqlServer
) -> None:
    """The default character set of the server is latin1."""
    await migrate(fresh)
    columns = (
        "FROM information_schema.columns WHERE table_name <> 'alembic_version'"
        f" AND table_schema = '{name_of(fresh)}'"
    )
    assert server.run(
        f"SELECT DISTINCT collation_name {columns} AND collation_name IS NOT NULL"
    ) == [("utf8mb4_bin",)]
    assert server.run(f"SELECT DISTINCT column_type {columns} AND column_name = 'path'") == [
        ("varbinary(1024)",)
    ]


async def test_interrupted_migration_is_finished_by_next_run(
    fresh: str, engine: Engine, server: MysqlServer
) -> None:
    """Each run begins where the one before was killed, and gets one DDL statement further.

    So each state that a dead run can leave is one that a run begins with.
    """
    done: list[str] = []

    def kill(connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        is_ours = statement.lstrip().startswith(CREATE) and "alembic_version" not in statement
        if is_ours and statement not in done:  # tables are created IF NOT EXISTS
            done.append(statement)
            for session in server.sessions():
                server.run(f"KILL CONNECTION {session}")

    for statements in range(1, DDL + 1):
        with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
            await with_listener(kill, lambda: migrate(fresh))
        assert len(done) == statements
        with pytest.raises(FailedPrecondition, match="SCHEMA_TOO_OLD"):
            await opened(fresh)
        # A revision is recorded after all of its statements: 12, 4, 1, 3, 3, 3, 5, 12, 18.
        written = sum(statements > through for through in (12, 16, 17, 20, 23, 26, 31, 43))
        recorded = server.run(f"SELECT version_num FROM {name_of(fresh)}.alembic_version")
        assert recorded == ([(ALL[written - 1],)] if written else [])
    assert (await migrate(fresh)).applied == ALL[-1:]
    assert set(describe_tables(engine)) == set(metadata.tables)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    async with open_catalogue(fresh) as catalogue:
        await catalogue.ping()


async def with_listener(
    listener: Callable[..., None], work: Callable[[], Awaitable[object]]
) -> None:
    event.listen(Engine, "after_cursor_execute", listener)
    try:
        await work()
    finally:
        event.remove(Engine, "after_cursor_execute", listener)


async def test_concurrent_migrations_run_one_at_a_time(fresh: str, engine: Engine) -> None:
    runs = await asyncio.gather(*(migrate(fresh) for _ in range(4)))
    assert sorted(run.applied for run in runs) == [(), (), (), ALL]
    assert set(describe_tables(engine)) == set(metadata.tables)


async def test_revision_is_committed_before_the_lock_is_released(
    fresh: str, server: MysqlServer
) -> None:
    """Otherwise the next run reads the previous revision and applies the last one again."""
    seen: list[object] = []

    def look(_connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        if "RELEASE_LOCK" in statement:
            seen.extend(server.run(f"SELECT version_num FROM {name_of(fresh)}.alembic_version"))

    event.listen(Engine, "before_cursor_execute", look)
    try:
        await migrate(fresh)
    finally:
        event.remove(Engine, "before_cursor_execute", look)
    assert seen == [(ALL[-1],)]


async def test_migration_waits_for_lock_and_times_out(
    fresh: str,
) -> None:
    lock = mysql.migration_lock_of(name_of(fresh))
    async with open_database(fresh) as database, database.reader.connect() as other:
        await other.exec_driver_sql(f"SELECT GET_LOCK('{lock}', 0)")
        with pytest.raises(Unavailable, match="MIGRATION_IN_PROGRESS"):
            await migrate(fresh, mysql=MysqlOptions(migration_lock_seconds=1))
        waiting = asyncio.create_task(migrate(fresh))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await other.exec_driver_sql(f"SELECT RELEASE_LOCK('{lock}')")
        assert (await waiting).applied == ALL


def test_migration_lock_name_matches_older_releases() -> None:
    """Older releases use `CONCAT('sluice.migrate.', MD5(DATABASE()))` on the server.

    During a rollout both start, and only one of them may migrate.
    """
    assert mysql.migration_lock_of("sluice") == LOCK_OF_SLUICE
    assert len(mysql.migration_lock_of("é" * 64)) <= 64


async def test_migrations_call_no_removed_mysql_function(fresh: str) -> None:
    """MySQL 9.6 removed MD5() and SHA1(); MariaDB still has them and raises no error."""
    statements_run: list[str] = []

    def listen(_connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        statements_run.append(statement)

    await with_listener(listen, lambda: migrate(fresh))
    assert len(statements_run) > DDL
    assert [one for one in statements_run if REMOVED.search(one)] == []


async def test_databases_of_one_server_migrate_concurrently(
    fresh: str, server: MysqlServer
) -> None:
    lock = mysql.migration_lock_of(name_of(fresh))
    async with open_database(fresh) as database, database.reader.connect() as other:
        await other.exec_driver_sql(f"SELECT GET_LOCK('{lock}', 0)")
        assert (await migrate(server.create_database())).applied == ALL


async def test_newer_database_is_not_migrated_but_served(
    fresh: str, engine: Engine, server: MysqlServer
) -> None:
    await migrate(fresh)
    server.run(f"UPDATE {name_of(fresh)}.alembic_version SET version_num = '9999'")
    before = describe_tables(engine)
    with pytest.raises(FailedPrecondition, match="SCHEMA_TOO_NEW"):
        await migrate(fresh)
    assert describe_tables(engine) == before
    async with open_catalogue(fresh) as catalogue:
        await catalogue.ping()


async def test_start_accepts_newer_schema(fresh: str, server: MysqlServer) -> None:
    await migrate(fresh)
    server.run(f"UPDATE {name_of(fresh)}.alembic_version SET version_num = '9999'")
    assert await migrate(fresh, accept_newer=True) == Migration("9999", ())


async def test_empty_database_is_rejected(fresh: str) -> None:
    with pytest.raises(FailedPrecondition, match="run `sluice-repository migrate`"):
        await opened(fresh)


async def opened(url: str) -> None:
    async with open_catalogue(url):
        pass


@pytest.mark.parametrize("start", [migrate, opened])
async def test_old_server_is_rejected_in_one_line(
    fresh: str,
    server: MysqlServer,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[[str], Awaitable[object]],
) -> None:
    monkeypatch.setattr(mysql, "_OLDEST_MARIADB", (99, 1))
    monkeypatch.setattr(mysql, "_OLDEST_MYSQL", (99, 1))
    name = "MariaDB" if server.vendor.is_mariadb else "MySQL"
    with pytest.raises(
        FailedPrecondition,
        match=rf"CATALOGUE_SERVER_TOO_OLD: .* {name} \d+\..*; use 99\.1 or later",
    ):
        await start(fresh)


async def test_intent_lookup_by_object_uses_index(url: str, server: MysqlServer) -> None:
    rows = ", ".join(f"('u{n}', 't', 'b', 'key/{n}', '', {n})" for n in range(1_000))
    table = f"{name_of(url)}.object_intents"
    server.run(
        f"INSERT INTO {table} (upload_id, tenant, bucket, object_key, multipart_id, created_at)"
        f" VALUES {rows}",
        "COMMIT",
        f"ANALYZE TABLE {table}",
    )
    plans: list[dict[str, object]] = []

    def explain(
        connection: Connection, cursor: object, statement: str, parameters: object, *_rest: object
    ) -> None:
        if not statement.startswith("EXPLAIN"):
            plan = connection.exec_driver_sql(f"{EXPLAIN} {statement}", parameters)  # type: ignore[arg-type]
            plans.extend(dict(row) for row in plan.mappings())

    async with open_database(url) as database, database.reader.connect() as connection:
        event.listen(connection.sync_connection, "before_cursor_execute", explain)
        assert await is_intended(connection, ObjectRef("b", "key/7"), "direct-")
        assert not await is_intended(connection, ObjectRef("b", "another"), "direct-")
    read = [plan["rows"] for plan in plans if plan["table"] == "object_intents"]
    assert len(read) == 2
    assert all(int(str(rows)) <= 1 for rows in read)
