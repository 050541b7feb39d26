"""Tests of rule 22 on a server that assigns ids at insert, not at commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import insert

from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_backends.sql.database import open_database
from sluice_backends.sql.rows import event_columns
from sluice_backends.sql.schema import outbox
from sluice_core.errors import NotFound
from sluice_core.events.uploads import to_record
from sluice_core.ports.event_publisher import EventRecord
from support.commits import DRIVE, TENANT, finished_upload, initiated_event, intent_of
from support.mysql_proxy import AtCommit, MysqlProxy
from support.mysql_server import MysqlServer


async def pending_events(catalogue: SqlCatalogue) -> list[tuple[str, str]]:
    return [summary(row.event) for row in await catalogue.outbox(10_000)]


def summary(event: EventRecord) -> tuple[str, str]:
    return event.key, event.type.rpartition(".")[2]


@pytest.mark.rule(22)
async def test_late_commit_with_lower_id_is_published(url: str, catalogue: SqlCatalogue) -> None:
    late = to_record(initiated_event(finished_upload("late")))
    early = finished_upload("early")
    async with open_database(url) as database, database.writer.begin() as slow:
        await slow.execute(insert(outbox), event_columns(late))
        await catalogue.commit_node(early)
        (seen,) = await catalogue.outbox(10)
        assert seen.event.key == early.node_id
        await catalogue.outbox_published([seen.row_id])
        assert not await catalogue.outbox(10)
    (found,) = await catalogue.outbox(10)
    assert found.row_id < seen.row_id
    assert found.event == late


@pytest.mark.rule(22)
@pytest.mark.usefixtures("step_by_step")
async def test_deletion_event_follows_creation_event(
    proxied: str, proxy: MysqlProxy, catalogue: SqlCatalogue, server: MysqlServer
) -> None:
    """The writer of the next event needs a row locked by the first transaction.

    Its event thus gets a higher id.
    """
    old, new = finished_upload("a"), finished_upload("a")
    async with open_catalogue(proxied) as slow, asyncio.TaskGroup() as group:
        proxy.at_commit = AtCommit.HOLD
        making = group.create_task(slow.commit_node(old))
        await proxy.commits_seen.acquire()
        superseding = group.create_task(catalogue.commit_node(new))
        while await asyncio.to_thread(server.lock_waits) == 0:  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.02)
        try:
            assert await pending_events(catalogue) == []
            await catalogue.delete_node(TENANT, old.node_id)
        except NotFound:
            proxy.go_on()
    assert (making.result().created, superseding.result().superseded_node_id) == (True, old.node_id)
    assert await pending_events(catalogue) == [
        (old.node_id, "UploadCompleted"),
        (new.node_id, "UploadCompleted"),
        (old.node_id, "NodeDeleted"),
    ]


@pytest.mark.rule(22)
async def test_relay_reads_events_of_each_node_in_order(url: str, catalogue: SqlCatalogue) -> None:
    uploads = [finished_upload(f"path-{number % 3}") for number in range(40)]
    for upload in uploads:
        await catalogue.record_intent(intent_of(upload))
    done = asyncio.Event()
    published: list[tuple[str, str]] = []

    async def relay() -> None:
        while True:
            finished = done.is_set()
            rows = await catalogue.outbox(7)
            published.extend(summary(row.event) for row in rows)
            await catalogue.outbox_published([row.row_id for row in rows])
            if finished and not rows:
                return

    async def write(some: Sequence[int], writer: SqlCatalogue) -> None:
        for number in some:
            await writer.commit_node(uploads[number])
            if number % 4 == 0:
                await writer.delete_node(TENANT, uploads[number].node_id)

    async with open_catalogue(url) as writer, asyncio.TaskGroup() as group:
        group.create_task(relay())
        async with asyncio.TaskGroup() as writers:
            for first in range(8):
                writers.create_task(write(range(first, 40, 8), writer))
        done.set()
    live = {node.node_id for node in (await catalogue.list_nodes(TENANT, DRIVE, "", 9, "")).nodes}
    for upload in uploads:
        mine = [kind for node_id, kind in published if node_id == upload.node_id]
        assert mine == ["UploadCompleted", "NodeDeleted"][: 1 if upload.node_id in live else 2]
