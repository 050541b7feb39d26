"""Tests of refused, lost, hanging and exhausted connections to MySQL."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from urllib.parse import quote

import pytest
from sqlalchemy import text

from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_backends.sql.database import Database, open_database
from sluice_backends.sql.migrate import migrate
from sluice_backends.sql.mysql import connection as mysql_connection
from sluice_backends.sql.options import MysqlOptions
from sluice_core.errors import FailedPrecondition, Internal, NotFound, Unavailable
from sluice_core.ports.catalogue import CommitOutcome
from support.commits import DRIVE, TENANT, finished_upload, initiated_event, intent_of
from support.mysql_proxy import AtCommit, MysqlProxy
from support.mysql_server import PASSWORD, USER, MysqlServer, shared_server
from support.redis_server import free_port
from support.waiting import until

SECONDS = 20.0
"""Upper bound of every wait, sufficient on a loaded machine."""


async def kill_sessions(server: MysqlServer) -> None:
    """Kill every session and wait until the server has ended the last one."""
    for session in server.sessions():
        server.run(f"KILL CONNECTION {session}")
    async with asyncio.timeout(SECONDS):
        while server.sessions():  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.01)


async def opened(url: str, options: MysqlOptions | None = None) -> None:
    async with open_catalogue(url, mysql=options) as catalogue:
        await catalogue.ping()


# -- commits without a response


@pytest.mark.rule(19)
async def test_commit_with_lost_response_is_repeatable(
    proxied: str, proxy: MysqlProxy, catalogue: SqlCatalogue
) -> None:
    upload = finished_upload("a")
    await catalogue.record_intent(intent_of(upload))
    async with open_catalogue(proxied) as remote:
        await remote.ping()
        proxy.at_commit = AtCommit.LOSE_ANSWER
        with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
            await remote.commit_node(upload)
        assert (await catalogue.find_node(TENANT, DRIVE, "a")).node_id == upload.node_id
        proxy.at_commit = AtCommit.PASS
        assert await remote.commit_node(upload) == CommitOutcome(created=False)
    assert len(await catalogue.outbox(10)) == 1


async def test_commit_with_lost_request_is_repeatable(
    proxied: str, proxy: MysqlProxy, catalogue: SqlCatalogue
) -> None:
    upload = finished_upload("a")
    await catalogue.record_intent(intent_of(upload))
    async with open_catalogue(proxied) as remote:
        await remote.ping()
        proxy.at_commit = AtCommit.LOSE_REQUEST
        with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
            await remote.commit_node(upload)
        proxy.at_commit = AtCommit.PASS
        assert await remote.commit_node(upload) == CommitOutcome(created=True)
    assert len(await catalogue.outbox(10)) == 1


async def test_killed_session_rolls_back_transaction(
    url: str, catalogue: SqlCatalogue, server: MysqlServer
) -> None:
    upload = finished_upload("a")
    async with open_catalogue(url) as other, open_database(url) as database:
        async with database.reader.connect() as holder:
            await holder.execute(text("SELECT * FROM drives FOR UPDATE"))
            own = (await holder.execute(text("SELECT CONNECTION_ID()"))).scalar_one()
            committing = asyncio.create_task(other.commit_node(upload))
            await until(lambda: asyncio.to_thread(server.lock_waits), SECONDS, "it waits")
            for session in set(server.sessions()) - {own}:
                server.run(f"KILL CONNECTION {session}")
            with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
                await committing
        assert await other.commit_node(upload) == CommitOutcome(created=True)


async def test_closed_connections_are_replaced_silently(
    catalogue: SqlCatalogue, server: MysqlServer
) -> None:
    await asyncio.gather(*(catalogue.ping() for _ in range(5)))
    await kill_sessions(server)
    for _ in range(6):
        await catalogue.ping()


async def test_recently_used_connection_is_not_pinged(
    proxied: str, proxy: MysqlProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_connection, "_NO_PING_SECONDS", 600.0)
    async with open_catalogue(proxied) as remote:
        await remote.ping()
        before = proxy.requests
        await remote.ping()
        without_ping = proxy.requests - before
        monkeypatch.setattr(mysql_connection, "_NO_PING_SECONDS", 0.0)
        before = proxy.requests
        await remote.ping()
        assert proxy.requests - before == without_ping + 1


async def test_intent_and_commit_take_one_request_each(
    proxied: str, proxy: MysqlProxy, catalogue: SqlCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_connection, "_NO_PING_SECONDS", 600.0)
    async with open_catalogue(proxied) as remote:
        await remote.commit_node(finished_upload("a"))  # looks up the drive once
        upload = finished_upload("b", metadata={"with": "it's % \\ and ; \x00"})
        before = proxy.requests
        await remote.record_intent(intent_of(upload))
        assert proxy.requests == before + 1
        assert await remote.commit_node(upload) == CommitOutcome(created=True)
        assert proxy.requests == before + 2
    assert (await catalogue.find_node(TENANT, DRIVE, "b")).metadata == upload.metadata
    assert not await catalogue.stale_intents(time.time() + 60, 10)
    assert len(await catalogue.outbox(10)) == 2


async def test_failed_batch_leaves_nothing(catalogue: SqlCatalogue) -> None:
    upload = finished_upload("a")
    await catalogue.record_intent(intent_of(upload))
    # Its row is inserted last and is too long.
    event = replace(initiated_event(upload), event_id="e" * 37)
    with pytest.raises(Internal, match="CATALOGUE_DEFECT"):
        await catalogue.commit_node(replace(upload, ledger_events=[event]))
    with pytest.raises(NotFound):
        await catalogue.get_node(TENANT, upload.node_id)
    assert len(await catalogue.stale_intents(time.time() + 60, 10)) == 1
    assert await catalogue.commit_node(upload) == CommitOutcome(created=True)
    assert len(await catalogue.outbox(10)) == 1


async def test_restarted_server_is_used_again(catalogue: SqlCatalogue, server: MysqlServer) -> None:
    before, after = finished_upload("a"), finished_upload("b")
    await catalogue.commit_node(before)
    server.kill()
    try:
        for _ in range(2):
            with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
                await catalogue.commit_node(after)
    finally:
        server.start()
    assert await catalogue.commit_node(after) == CommitOutcome(created=True)
    assert await catalogue.commit_node(before) == CommitOutcome(created=False)


# -- limits


async def test_silent_server_fails_at_deadline(
    proxied: str, proxy: MysqlProxy, server: MysqlServer
) -> None:
    options = MysqlOptions(transaction_seconds=1.5, connect_timeout_seconds=1.5)
    async with open_catalogue(proxied, mysql=options) as remote:
        await remote.ping()
        proxy.freeze()
        async with asyncio.timeout(SECONDS):
            with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
                await remote.ping()
            with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
                await remote.commit_node(finished_upload("a"))
        proxy.thaw()
        await remote.ping()


async def test_connect_timeout_includes_authentication(proxied: str, proxy: MysqlProxy) -> None:
    proxy.freeze()  # accepts the connection and sends nothing
    options = MysqlOptions(connect_timeout_seconds=0.3, transaction_seconds=10 * SECONDS)
    async with asyncio.timeout(SECONDS):
        with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
            await opened(proxied, options)


async def test_unreachable_server_is_unavailable(server: MysqlServer, url: str) -> None:
    unreachable = server.url(url.rpartition("/")[2], port=free_port())
    with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
        await opened(unreachable)


async def test_exhausted_pool_raises_unavailable_after_timeout(url: str) -> None:
    options = MysqlOptions(max_connections=2, pool_timeout_seconds=0.2)
    async with open_database(url, mysql=options) as database:
        async with database.read(), database.read():
            with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
                async with database.read():
                    pass
        async with database.read() as connection:
            await connection.execute(text("SELECT 1"))


async def test_connection_limit_is_respected(url: str, server: MysqlServer) -> None:
    others = set(server.sessions())
    async with open_catalogue(url, mysql=MysqlOptions(max_connections=3)) as catalogue:
        await asyncio.gather(*(catalogue.ping() for _ in range(30)))
        assert len(set(server.sessions()) - others) <= 3
    async with asyncio.timeout(SECONDS):
        while set(server.sessions()) - others:  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.02)


async def test_cancelled_transaction_releases_locks(url: str, catalogue: SqlCatalogue) -> None:
    inside = asyncio.Event()

    async def stuck(database: Database) -> None:
        async with database.write() as connection:
            await connection.execute(text("SELECT * FROM drives FOR UPDATE"))
            inside.set()
            await asyncio.Event().wait()

    async with open_database(url) as database:
        task = asyncio.create_task(stuck(database))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(SECONDS):
            assert (await catalogue.commit_node(finished_upload("a"))).created


async def test_connection_cancelled_in_statement_is_discarded(
    url: str, server: MysqlServer
) -> None:
    async with open_database(url, mysql=MysqlOptions(max_connections=1)) as database:

        async def one_of(statement: str) -> object:
            async with database.read() as connection:
                return (await connection.execute(text(statement))).scalar_one()

        first = await one_of("SELECT CONNECTION_ID()")
        leaving = asyncio.create_task(one_of("SELECT SLEEP(60)"))
        sleeps = "SELECT id FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'"
        await until(lambda: server.run(sleeps), SECONDS, "the server sleeps")
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await one_of("SELECT 7") == 7
        assert await one_of("SELECT CONNECTION_ID()") != first


# -- errors of the settings, in one line


@pytest.mark.parametrize("what", ["password", "user", "database", "no right to the database"])
@pytest.mark.parametrize("start", [migrate, opened])
async def test_denied_access_is_reported_in_one_line(
    what: str, start: object, server: MysqlServer, url: str
) -> None:
    database = url.rpartition("/")[2]
    wrong = {
        "password": server.url(database, password="hunter2"),
        "user": url.replace(f"//{USER}:", "//stranger:"),
        "database": server.url("nowhere"),
        "no right to the database": server.url("mysql"),
    }[what]
    server.run(f"GRANT ALL ON nowhere.* TO {USER}")
    assert callable(start)
    with pytest.raises(Unavailable, match="CATALOGUE_ACCESS_DENIED") as refused:
        await start(wrong)
    line = str(refused.value)
    assert "\n" not in line
    assert f"127.0.0.1:{server.port}" in line
    assert "hunter2" not in line
    assert PASSWORD not in line
    assert quote(PASSWORD, safe="") not in line
    if what == "database":
        assert "has no database 'nowhere'" in line


async def test_changed_password_is_retried(
    url: str, catalogue: SqlCatalogue, server: MysqlServer
) -> None:
    upload = finished_upload("a")
    server.run(f"ALTER USER {USER} IDENTIFIED BY 'another'")
    try:
        await kill_sessions(server)
        with pytest.raises(Unavailable, match="CATALOGUE_ACCESS_DENIED"):
            await catalogue.commit_node(upload)
    finally:
        server.run(f"ALTER USER {USER} IDENTIFIED BY '{PASSWORD}'")
    assert (await catalogue.commit_node(upload)).created


@pytest.mark.parametrize(
    "url",
    [
        "mysql+aiomysql://u:secret@h",
        "mysql://u:secret@h/",
        "mysql://u:secret@h:port/d",
        "mysql://u:secret@h/d?autocommit=1",
        "mysql://u:secret@h/d?charset=latin1",
        "mysql://u:secret@h/d?ssl=perhaps",
        "mysql://u:secret@h/d?ssl_ca=/no/such/file",
    ],
)
async def test_invalid_url_is_rejected_without_its_text(url: str) -> None:
    with pytest.raises(FailedPrecondition, match="CATALOGUE_URL_UNSUPPORTED") as refused:
        await opened(url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


# -- session settings


async def test_sessions_ignore_server_settings(url: str) -> None:
    server = shared_server()
    assert server.run("SELECT @@global.sql_mode, @@global.time_zone") == [("", "+05:30")]
    async with open_database(url) as database, database.read() as connection:
        query = "SELECT @@time_zone, @@character_set_client, @@sql_mode"
        ((zone, charset, mode),) = (await connection.execute(text(query))).all()
        # Vendors and versions have the old name, the new one, or both.
        named = "SHOW SESSION VARIABLES WHERE variable_name RLIKE '^(tx|transaction)_isolation$'"
        ((_, isolation), *_) = (await connection.execute(text(named))).all()
    assert (isolation, zone, charset) == ("READ-COMMITTED", "+00:00", "utf8mb4")
    assert "STRICT_ALL_TABLES" in mode


async def test_oversized_value_is_rejected(catalogue: SqlCatalogue) -> None:
    with pytest.raises(Internal, match="CATALOGUE_DEFECT"):
        await catalogue.hold_lease("n" * 129, "a", 60)
    assert await catalogue.hold_lease("n" * 128, "a", 60)


@pytest.mark.rule(22)
async def test_leases_use_server_clock(url: str, server: MysqlServer) -> None:
    async with open_catalogue(url, clock=lambda: 1_000.0) as catalogue:
        assert await catalogue.hold_lease("relay", "a", 60)
        assert not await catalogue.hold_lease("relay", "b", 60)
    left = "SELECT expires_at / 1000000 - UNIX_TIMESTAMP(NOW(6))"
    ((seconds,),) = server.run(f"{left} FROM {url.rpartition('/')[2]}.leases")
    assert 50 < float(str(seconds)) <= 60
