"""Tests of the locks of quotas (ADR 0024): who waits for a reservation, and who does not."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_backends.sql.database import open_database
from sluice_backends.sql.options import MysqlOptions
from sluice_core.ports.catalogue import DrivePolicy
from sluice_core.ports.quotas import Quota, Usage
from support.commits import BUCKET, DRIVE, TENANT, finished_upload, intent_of
from support.mysql_server import MysqlServer

LOCK_QUOTAS = text("SELECT * FROM quotas FOR UPDATE")
SECONDS = 20.0
"""Upper bound of every wait, sufficient on a loaded machine."""
CONNECTIONS = 4


async def until_waiting(server: MysqlServer, waiters: int) -> None:
    async with asyncio.timeout(SECONDS):
        while await asyncio.to_thread(server.lock_waits) < waiters:  # noqa: ASYNC110 - it is theirs
            await asyncio.sleep(0.02)


def row_lock_waits(server: MysqlServer) -> object:
    """Return how often any transaction has waited for a row lock."""
    return server.run("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'")


@pytest.mark.parametrize("is_reserved", [True, False])
async def test_commit_packet_waits_for_no_quota(
    catalogue: SqlCatalogue, url: str, server: MysqlServer, is_reserved: bool
) -> None:
    """The packet only reads whether a quota applies. Without a reservation it is refused.

    The single statements, which follow then, wait for the rows of the quotas.
    """
    for drive in (DRIVE, ""):
        await catalogue.set_quota(TENANT, drive, Quota(max_bytes=100))
    upload = finished_upload("a", content=b"12345")
    if is_reserved:
        await catalogue.reserve(TENANT, DRIVE, upload.upload_id, 5)
    await catalogue.record_intent(intent_of(upload))
    before = row_lock_waits(server)
    async with open_database(url) as database, database.reader.connect() as connection:
        await connection.execute(LOCK_QUOTAS)
        assert await catalogue._commit_batch(upload) is is_reserved
        await connection.rollback()
    assert row_lock_waits(server) == before
    _, usage = await catalogue.get_quota(TENANT, DRIVE)
    assert usage == (Usage(bytes=5, nodes=1) if is_reserved else Usage())


async def test_waiting_reservations_leave_connections_to_others(
    url: str, server: MysqlServer
) -> None:
    """Only one reservation of a tenant at a time takes a connection and waits for the locks."""
    options = MysqlOptions(max_connections=CONNECTIONS, pool_timeout_seconds=1.0)
    async with open_catalogue(url, mysql=options) as catalogue, open_database(url) as database:
        for tenant in (TENANT, "rival"):
            await catalogue.create_drive(tenant, DRIVE, BUCKET, f"{tenant}/", DrivePolicy())
        await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=100))
        async with database.reader.connect() as connection:
            await connection.execute(LOCK_QUOTAS)
            waiting = [
                asyncio.create_task(catalogue.reserve(TENANT, DRIVE, f"u{number}", 1))
                for number in range(3 * CONNECTIONS)
            ]
            await until_waiting(server, 1)
            for _ in range(CONNECTIONS):
                assert not (await catalogue.get_drive("rival", DRIVE)).has_quota
            assert await asyncio.to_thread(server.lock_waits) == 1
            await connection.rollback()
        assert all(await asyncio.gather(*waiting))
        _, usage = await catalogue.get_quota(TENANT, DRIVE)
        assert usage.open_uploads == 3 * CONNECTIONS
