"""Tests of rule 19 with overlapping transactions.

A test session locks the row that the contenders need until all of them wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text

from sluice.events.v1 import nodes_pb2
from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_backends.sql.database import Database, open_database
from sluice_backends.sql.options import MysqlOptions
from sluice_core.errors import AlreadyExists, NotFound, Unavailable
from sluice_core.ports.catalogue import CommitOutcome, NodeCommit
from support.commits import DRIVE, TENANT, finished_upload, intent_of
from support.mysql_proxy import AtCommit, MysqlProxy
from support.mysql_server import MysqlServer

FAR = time.time() + 1e6
SECONDS = 20.0
"""Upper bound of every wait, sufficient on a loaded machine."""

PATH_ROW = "SELECT * FROM paths WHERE path = 'a' FOR UPDATE"
UNCOMMITTED_PATH = (
    "INSERT INTO paths (drive_id, path, node_id) SELECT drive_id, 'a', 'nobody' FROM drives"
)


@asynccontextmanager
async def holding(
    database: Database, server: MysqlServer, statement: str, waiters: int
) -> AsyncIterator[None]:
    """Hold the locks of `statement` until this number of transactions waits; then roll back."""
    async with database.reader.connect() as connection:
        await connection.execute(text("SET foreign_key_checks = 0"))
        await connection.execute(text(statement))
        yield
        await until_waiting(server, waiters)
        await connection.rollback()
        await connection.execute(text("SET foreign_key_checks = 1"))


async def until_waiting(server: MysqlServer, waiters: int) -> None:
    async with asyncio.timeout(SECONDS):
        while await asyncio.to_thread(server.lock_waits) < waiters:  # noqa: ASYNC110 - it is theirs
            await asyncio.sleep(0.02)


async def race(
    url: str, server: MysqlServer, held: str, *contenders: Coroutine[Any, Any, Any]
) -> list[Any]:
    """Return results or errors of contenders that waited for the lock in this order."""
    tasks: list[asyncio.Task[Any]] = []
    async with open_database(url) as database, holding(database, server, held, len(contenders)):
        for number, contender in enumerate(contenders, 1):
            tasks.append(asyncio.create_task(contender))
            await until_waiting(server, number)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def record_intents(catalogue: SqlCatalogue, *uploads: NodeCommit) -> None:
    """Record intents as workers do; a commit is a batch only with an intent."""
    for upload in uploads:
        await catalogue.record_intent(intent_of(upload))


async def pending_events(catalogue: SqlCatalogue) -> list[tuple[str, str]]:
    """Return key and type of the events in the outbox, in order."""
    rows = await catalogue.outbox(10_000)
    return [(row.event.key, row.event.type.rpartition(".")[2]) for row in rows]


async def scheduled_deletions(catalogue: SqlCatalogue) -> list[str]:
    return sorted(one.object.key for one in await catalogue.deletions_due(FAR, 10_000))


@pytest.mark.rule(19)
async def test_second_commit_to_path_supersedes_first(
    url: str, catalogue: SqlCatalogue, server: MysqlServer
) -> None:
    before, one, two = (finished_upload("a") for _ in range(3))
    await catalogue.commit_node(before)
    first, second = await race(
        url, server, PATH_ROW, catalogue.commit_node(one), catalogue.commit_node(two)
    )
    assert {first.superseded_node_id, second.superseded_node_id} in (
        {before.node_id, one.node_id},
        {before.node_id, two.node_id},
    )
    winner, loser = (two, one) if second.superseded_node_id == one.node_id else (one, two)
    assert (await catalogue.find_node(TENANT, DRIVE, "a")).node_id == winner.node_id
    assert await pending_events(catalogue) == [
        (before.node_id, "UploadCompleted"),
        (loser.node_id, "UploadCompleted"),
        (before.node_id, "NodeDeleted"),
        (winner.node_id, "UploadCompleted"),
        (loser.node_id, "NodeDeleted"),
    ]
    assert await scheduled_deletions(catalogue) == sorted([before.object.key, loser.object.key])


@pytest.mark.rule(19)
@pytest.mark.parametrize("commits", [2, 6])
async def test_concurrent_commits_to_free_path_all_succeed(
    url: str, catalogue: SqlCatalogue, server: MysqlServer, commits: int
) -> None:
    """All of them wait for an uncommitted path, which is rolled back.

    The first one creates it; the others become deadlock victims and are retried.
    """
    uploads = [finished_upload("a") for _ in range(commits)]
    await record_intents(catalogue, *uploads)
    outcomes = await race(
        url, server, UNCOMMITTED_PATH, *(catalogue.commit_node(upload) for upload in uploads)
    )
    assert all(isinstance(outcome, CommitOutcome) and outcome.created for outcome in outcomes)
    winner = (await catalogue.find_node(TENANT, DRIVE, "a")).node_id
    assert {outcome.superseded_node_id for outcome in outcomes} == {
        "",
        *(upload.node_id for upload in uploads if upload.node_id != winner),
    }


@pytest.mark.rule(19)
async def test_one_of_two_if_absent_commits_is_rejected(
    url: str, catalogue: SqlCatalogue, server: MysqlServer
) -> None:
    uploads = [finished_upload("a", if_absent=True) for _ in range(2)]
    await record_intents(catalogue, *uploads)
    outcomes = await race(
        url, server, UNCOMMITTED_PATH, *(catalogue.commit_node(upload) for upload in uploads)
    )
    (refused,) = (outcome for outcome in outcomes if isinstance(outcome, AlreadyExists))
    (created_outcome,) = (outcome for outcome in outcomes if isinstance(outcome, CommitOutcome))
    assert (refused.reason, created_outcome) == ("PATH_EXISTS", CommitOutcome(created=True))
    node = await catalogue.find_node(TENANT, DRIVE, "a")
    assert refused.metadata == {"node_id": node.node_id}
    assert await pending_events(catalogue) == [(node.node_id, "UploadCompleted")]


@pytest.mark.rule(19, 26)
@pytest.mark.parametrize("deletes_first", [True, False])
async def test_commit_and_deletion_end_old_node_once(
    url: str, catalogue: SqlCatalogue, server: MysqlServer, deletes_first: bool
) -> None:
    old, new = finished_upload("a"), finished_upload("a")
    await catalogue.commit_node(old)
    contenders: list[Coroutine[Any, Any, Any]] = [
        catalogue.delete_node(TENANT, old.node_id),
        catalogue.commit_node(new),
    ]
    if not deletes_first:
        contenders.reverse()
    outcomes = await race(url, server, PATH_ROW, *contenders)
    assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    (commit,) = (outcome for outcome in outcomes if outcome is not None)
    assert (await catalogue.find_node(TENANT, DRIVE, "a")).node_id == new.node_id
    rows = await catalogue.outbox(10)
    (ending,) = (row.event for row in rows if row.event.type.endswith("NodeDeleted"))
    reason = nodes_pb2.NodeDeleted.FromString(ending.payload).reason
    assert (reason, commit.superseded_node_id) in (
        ("DELETED", ""),
        ("SUPERSEDED", old.node_id),
    )
    assert ending.key == old.node_id
    assert await scheduled_deletions(catalogue) == [old.object.key]


@pytest.mark.rule(19)
async def test_replayed_commit_stays_superseded(
    url: str, catalogue: SqlCatalogue, server: MysqlServer
) -> None:
    old, new = finished_upload("a"), finished_upload("a")
    await catalogue.commit_node(old)
    old_row = f"SELECT * FROM nodes WHERE node_id = '{old.node_id}' FOR UPDATE"
    superseding, replay = await race(
        url, server, old_row, catalogue.commit_node(new), catalogue.commit_node(old)
    )
    assert superseding == CommitOutcome(created=True, superseded_node_id=old.node_id)
    assert replay == CommitOutcome(created=False)
    assert (await catalogue.find_node(TENANT, DRIVE, "a")).node_id == new.node_id
    with pytest.raises(NotFound):
        await catalogue.get_node(TENANT, old.node_id)
    assert len(await pending_events(catalogue)) == 3


@pytest.mark.rule(18, 19)
async def test_concurrent_completers_create_one_node(
    url: str, catalogue: SqlCatalogue, server: MysqlServer
) -> None:
    upload = finished_upload("a")
    await record_intents(catalogue, upload)
    uncommitted_node = (
        "INSERT INTO nodes (node_id, drive_id, path, upload_id, state, size, content_type, crc32c,"
        " metadata, bucket, object_key, version, created_at, updated_at)"
        f" SELECT '{upload.node_id}', drive_id, 'a', '', 'LIVE', 0, '', 0, '', '', '', 0, 0, 0"
        " FROM drives"
    )
    completers = (catalogue.commit_node(upload) for _ in range(3))
    outcomes = await race(url, server, uncommitted_node, *completers)
    assert sorted(outcome.created for outcome in outcomes) == [False, False, True]
    assert await pending_events(catalogue) == [(upload.node_id, "UploadCompleted")]


@pytest.mark.rule(19, 22)
async def test_batch_commit_holds_path_lock_until_end(
    url: str, catalogue: SqlCatalogue, server: MysqlServer
) -> None:
    """The batch waits at the step after the path's, whose row is locked."""
    old, new = finished_upload("a"), finished_upload("a")
    await record_intents(catalogue, old)
    intent_row = f"SELECT * FROM object_intents WHERE upload_id = '{old.upload_id}' FOR UPDATE"
    first, second = await race(
        url, server, intent_row, catalogue.commit_node(old), catalogue.commit_node(new)
    )
    assert first == CommitOutcome(created=True)
    assert second == CommitOutcome(created=True, superseded_node_id=old.node_id)
    assert await pending_events(catalogue) == [
        (old.node_id, "UploadCompleted"),
        (new.node_id, "UploadCompleted"),
        (old.node_id, "NodeDeleted"),
    ]
    assert not await catalogue.stale_intents(FAR, 10)


@pytest.mark.usefixtures("step_by_step")
async def test_commits_to_other_paths_do_not_wait(
    proxied: str, proxy: MysqlProxy, catalogue: SqlCatalogue
) -> None:
    """This holds even while both supersede and lock the previous node."""
    for path in ("a", "b"):
        await catalogue.commit_node(finished_upload(path))
    async with open_catalogue(proxied) as slow, asyncio.TaskGroup() as group:
        proxy.at_commit = AtCommit.HOLD
        superseding = group.create_task(slow.commit_node(finished_upload("a")))
        await proxy.commits_seen.acquire()
        async with asyncio.timeout(SECONDS):
            other = await catalogue.commit_node(finished_upload("b"))
            await catalogue.commit_node(finished_upload("c"))
        assert not superseding.done()
        proxy.go_on()
    assert superseding.result().superseded_node_id
    assert other.superseded_node_id


@pytest.mark.rule(19, 22)
async def test_many_commits_to_few_paths_all_succeed(url: str, catalogue: SqlCatalogue) -> None:
    uploads = [finished_upload(f"path-{number % 4}") for number in range(32)]
    await record_intents(catalogue, *uploads)
    async with open_catalogue(url) as another_process, asyncio.timeout(60):
        outcomes = await asyncio.gather(
            *(
                (catalogue if number % 3 else another_process).commit_node(upload)
                for number, upload in enumerate(uploads)
            )
        )
    assert all(outcome.created for outcome in outcomes)
    live = {node.node_id for node in (await catalogue.list_nodes(TENANT, DRIVE, "", 9, "")).nodes}
    superseded = [one.superseded_node_id for one in outcomes if one.superseded_node_id]
    assert len(live) == 4
    assert Counter(superseded) == Counter({u.node_id for u in uploads} - live)
    events = await pending_events(catalogue)
    for upload in uploads:
        mine = [kind for node_id, kind in events if node_id == upload.node_id]
        assert mine == ["UploadCompleted", "NodeDeleted"][: 1 if upload.node_id in live else 2]


async def test_deadlock_victim_is_retried(url: str, catalogue: SqlCatalogue) -> None:
    for name in ("left", "right"):
        await catalogue.hold_lease(name, "nobody", 60)
    both_hold_one = asyncio.Barrier(2)
    attempts = 0

    async def take(database: Database, *names: str) -> None:
        nonlocal attempts
        first = True

        async def work(connection: Any) -> None:
            nonlocal attempts, first
            attempts += 1
            for name in names:
                query = text("SELECT * FROM leases WHERE name = :name FOR UPDATE")
                await connection.execute(query, {"name": name})
                if first:
                    first = False
                    await both_hold_one.wait()

        await database.transact(work)

    async with open_database(url) as database, asyncio.TaskGroup() as group:
        group.create_task(take(database, "left", "right"))
        group.create_task(take(database, "right", "left"))
    assert attempts == 3


@pytest.mark.parametrize(("released", "seconds"), [(True, 20.0), (False, 2.5)])
async def test_lock_wait_is_retried_until_deadline(
    url: str, catalogue: SqlCatalogue, released: bool, seconds: float
) -> None:
    await catalogue.commit_node(finished_upload("a"))
    options = MysqlOptions(lock_wait_seconds=1, transaction_seconds=seconds)
    async with (
        open_catalogue(url, mysql=options) as impatient,
        open_database(url) as database,
        database.reader.connect() as holder,
    ):
        await holder.execute(text(PATH_ROW))
        waiting = asyncio.create_task(impatient.commit_node(finished_upload("a")))
        if released:
            await asyncio.sleep(1.5)
            await holder.rollback()
            assert (await waiting).created
        else:
            async with asyncio.timeout(SECONDS):
                with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
                    await waiting
