"""Connections that cannot be made, are lost, hang, or are all in use."""

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
"""By then anything has happened, on the busiest machine too."""


async def killed(server: MysqlServer) -> None:
    """Every session is ended by the server; it takes a moment until the last one is."""
    for session in server.sessions():
        server.run(f"KILL CONNECTION {session}")
    async with asyncio.timeout(SECONDS):
        while server.sessions():  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.01)


async def opened(url: str, options: MysqlOptions | None = None) -> None:
    async with open_catalogue(url, mysql=options) as catalogue:
        await catalogue.ping()


# -- a commit of which nobody heard


@pytest.mark.rule(19)
async def test_a_commit_whose_answer_was_lost_is_there_and_may_be_repeated(
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


async def test_a_commit_that_never_arrived_left_nothing_and_may_be_repeated(
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


async def test_a_session_that_is_killed_in_a_transaction_takes_it_along(
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


async def test_connections_that_the_server_closed_meanwhile_are_replaced_unseen(
    catalogue: SqlCatalogue, server: MysqlServer
) -> None:
    await asyncio.gather(*(catalogue.ping() for _ in range(5)))
    await killed(server)
    for _ in range(6):
        await catalogue.ping()


async def test_a_connection_that_was_in_use_a_moment_ago_is_not_asked_whether_it_is_one(
    proxied: str, proxy: MysqlProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_connection, "_NO_PING_SECONDS", 600.0)
    async with open_catalogue(proxied) as remote:
        await remote.ping()
        begun = proxy.requests
        await remote.ping()
        unasked = proxy.requests - begun
        monkeypatch.setattr(mysql_connection, "_NO_PING_SECONDS", 0.0)
        begun = proxy.requests
        await remote.ping()
        assert proxy.requests - begun == unasked + 1


async def test_an_intent_is_one_request_and_so_is_a_commit_to_a_free_path(
    proxied: str, proxy: MysqlProxy, catalogue: SqlCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_connection, "_NO_PING_SECONDS", 600.0)
    async with open_catalogue(proxied) as remote:
        await remote.commit_node(finished_upload("a"))  # asks for the drive, once
        upload = finished_upload("b", metadata={"with": "it's % \\ and ; \x00"})
        before = proxy.requests
        await remote.record_intent(intent_of(upload))
        assert proxy.requests == before + 1
        assert await remote.commit_node(upload) == CommitOutcome(created=True)
        assert proxy.requests == before + 2
    assert (await catalogue.find_node(TENANT, DRIVE, "b")).metadata == upload.metadata
    assert not await catalogue.stale_intents(time.time() + 60, 10)
    assert len(await catalogue.outbox(10)) == 2


async def test_what_fails_within_a_packet_leaves_nothing_of_it(catalogue: SqlCatalogue) -> None:
    upload = finished_upload("a")
    await catalogue.record_intent(intent_of(upload))
    # Its row is inserted last, and does not fit.
    event = replace(initiated_event(upload), event_id="e" * 37)
    with pytest.raises(Internal, match="CATALOGUE_DEFECT"):
        await catalogue.commit_node(replace(upload, ledger_events=[event]))
    with pytest.raises(NotFound):
        await catalogue.get_node(TENANT, upload.node_id)
    assert len(await catalogue.stale_intents(time.time() + 60, 10)) == 1
    assert await catalogue.commit_node(upload) == CommitOutcome(created=True)
    assert len(await catalogue.outbox(10)) == 1


async def test_a_server_that_died_is_used_again_once_it_is_back(
    catalogue: SqlCatalogue, server: MysqlServer
) -> None:
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


# -- bounds


async def test_a_server_that_falls_silent_is_given_up_at_the_deadline(
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


async def test_logging_in_is_part_of_the_limit_on_connecting(
    proxied: str, proxy: MysqlProxy
) -> None:
    proxy.freeze()  # it takes the connection, and says nothing
    options = MysqlOptions(connect_timeout_seconds=0.3, transaction_seconds=10 * SECONDS)
    async with asyncio.timeout(SECONDS):
        with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
            await opened(proxied, options)


async def test_a_server_that_is_not_there_is_unavailable(server: MysqlServer, url: str) -> None:
    nobody = server.url(url.rpartition("/")[2], port=free_port())
    with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
        await opened(nobody)


async def test_a_full_pool_is_waited_for_and_then_a_typed_refusal(url: str) -> None:
    options = MysqlOptions(max_connections=2, pool_timeout_seconds=0.2)
    async with open_database(url, mysql=options) as database:
        async with database.read(), database.read():
            with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
                async with database.read():
                    pass
        async with database.read() as connection:
            await connection.execute(text("SELECT 1"))


async def test_no_more_connections_are_opened_than_allowed(url: str, server: MysqlServer) -> None:
    others = set(server.sessions())
    async with open_catalogue(url, mysql=MysqlOptions(max_connections=3)) as catalogue:
        await asyncio.gather(*(catalogue.ping() for _ in range(30)))
        assert len(set(server.sessions()) - others) <= 3
    async with asyncio.timeout(SECONDS):
        while set(server.sessions()) - others:  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.02)


async def test_a_cancelled_transaction_lets_go_of_its_locks(
    url: str, catalogue: SqlCatalogue
) -> None:
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


async def test_a_connection_that_was_cut_within_a_statement_is_not_used_again(
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


# -- what is wrong with the settings, in one line


@pytest.mark.parametrize("what", ["password", "user", "database", "no right to the database"])
@pytest.mark.parametrize("start", [migrate, opened])
async def test_not_being_let_in_is_told_in_one_line(
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


async def test_a_password_that_is_changed_while_we_run_is_waited_for(
    url: str, catalogue: SqlCatalogue, server: MysqlServer
) -> None:
    upload = finished_upload("a")
    server.run(f"ALTER USER {USER} IDENTIFIED BY 'another'")
    try:
        await killed(server)
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
async def test_a_url_that_cannot_work_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(FailedPrecondition, match="CATALOGUE_URL_UNSUPPORTED") as refused:
        await opened(url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


# -- what a session is set to, whatever the server is


async def test_sessions_do_not_depend_on_the_servers_settings(url: str) -> None:
    server = shared_server()
    assert server.run("SELECT @@global.sql_mode, @@global.time_zone") == [("", "+05:30")]
    async with open_database(url) as database, database.read() as connection:
        query = "SELECT @@time_zone, @@character_set_client, @@sql_mode"
        ((zone, charset, mode),) = (await connection.execute(text(query))).all()
        # The old name, the new one, or both, by vendor and version.
        named = "SHOW SESSION VARIABLES WHERE variable_name RLIKE '^(tx|transaction)_isolation$'"
        ((_, isolation), *_) = (await connection.execute(text(named))).all()
    assert (isolation, zone, charset) == ("READ-COMMITTED", "+00:00", "utf8mb4")
    assert "STRICT_ALL_TABLES" in mode


async def test_a_value_that_does_not_fit_is_an_error_and_not_cut(catalogue: SqlCatalogue) -> None:
    with pytest.raises(Internal, match="CATALOGUE_DEFECT"):
        await catalogue.hold_lease("n" * 129, "a", 60)
    assert await catalogue.hold_lease("n" * 128, "a", 60)


@pytest.mark.rule(22)
async def test_leases_run_by_the_servers_clock_and_not_by_ours(
    url: str, server: MysqlServer
) -> None:
    async with open_catalogue(url, clock=lambda: 1_000.0) as catalogue:
        assert await catalogue.hold_lease("relay", "a", 60)
        assert not await catalogue.hold_lease("relay", "b", 60)
    left = "SELECT expires_at / 1000000 - UNIX_TIMESTAMP(NOW(6))"
    ((seconds,),) = server.run(f"{left} FROM {url.rpartition('/')[2]}.leases")
    assert 50 < float(str(seconds)) <= 60
