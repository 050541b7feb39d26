"""Commits that meet the deletion of their drive on a server."""

from __future__ import annotations

import asyncio

import pytest

from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_core.errors import FailedPrecondition, NotFound
from support.commits import DRIVE, TENANT, finished_upload, intent_of
from support.mysql_proxy import AtCommit, MysqlProxy
from support.mysql_server import MysqlServer

NODE = b"INSERT INTO nodes"


async def warm_up(remote: SqlCatalogue) -> None:
    """Commit a node and delete it, so that `remote` knows the row of the drive."""
    known = finished_upload("known")
    await remote.record_intent(intent_of(known))
    await remote.commit_node(known)
    await remote.delete_node(TENANT, known.node_id)


@pytest.mark.rule(19)
async def test_late_packet_adds_no_node_to_a_deleted_drive(
    url: str, catalogue: SqlCatalogue, proxied: str, proxy: MysqlProxy, server: MysqlServer
) -> None:
    """The packet of a known drive was on its way when the drive was deleted."""
    async with open_catalogue(proxied) as remote:
        await warm_up(remote)
        late = finished_upload("late")
        await catalogue.record_intent(intent_of(late))
        proxy.only_with, proxy.at_commit = NODE, AtCommit.HOLD
        committing = asyncio.create_task(remote.commit_node(late))
        async with asyncio.timeout(20):
            await proxy.commits_seen.acquire()
        await catalogue.delete_drive(TENANT, DRIVE)
        await proxy.deliver()
        with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
            await committing
    name = url.rpartition("/")[2]
    assert server.run(f"SELECT node_id FROM {name}.nodes WHERE state = 'LIVE'") == []
    assert server.run(f"SELECT path FROM {name}.paths") == []


@pytest.mark.rule(19)
@pytest.mark.usefixtures("step_by_step")
async def test_deleting_a_drive_waits_for_a_running_commit(
    catalogue: SqlCatalogue, proxied: str, proxy: MysqlProxy, server: MysqlServer
) -> None:
    upload = finished_upload("a")
    await catalogue.record_intent(intent_of(upload))
    async with open_catalogue(proxied) as remote, asyncio.TaskGroup() as group:
        proxy.at_commit = AtCommit.HOLD
        group.create_task(remote.commit_node(upload))
        await proxy.commits_seen.acquire()
        deleting = asyncio.create_task(catalogue.delete_drive(TENANT, DRIVE))
        while await asyncio.to_thread(server.lock_waits) == 0:  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.02)
        assert not deleting.done()
        proxy.resume()
        with pytest.raises(FailedPrecondition, match="DRIVE_NOT_EMPTY"):
            await deleting
    assert await catalogue.is_object_live(upload.object)
