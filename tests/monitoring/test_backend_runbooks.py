"""Runbooks of backends that fail the services, followed for real; see test_runbooks.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import grpc
import grpc.aio
import pytest

from support import mysql_server
from support.http_faults import HttpFault
from support.network_faults import Faults
from support.photo_user import photo_user
from support.prometheus import ends, fires
from support.waiting import until
from support.watched_fleet import DRIVE, MIB, SECONDS, WatchedFleet

pytestmark = [
    pytest.mark.slow_fault,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),  # seven processes start first
]

SLOW_SECONDS: Final = 0.3
"""More than an acknowledgement may take."""
WITHHELD_SECONDS: Final = 120.0
"""A withheld event is retried every minute."""
DENIED: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
)


@asynccontextmanager
async def repeating(once: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Repeat a call of a user while the block runs; an unavailable service is no failure."""

    async def repeat() -> None:
        while True:
            try:
                await once()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(repeat())
        yield
        task.cancel()


# ------------------------------------------------------------------ Redis


async def test_slow_redis_is_fast_again(fleet: WatchedFleet) -> None:
    watching, operator = fleet.watching, fleet.operator
    burns = ("SluiceAcknowledgementBudgetFastBurn", "SluiceAcknowledgementBudgetSlowBurn")
    await ends(watching, *burns)
    async with repeating(lambda: fleet.upload(bytes(1000))):
        fleet.redis_line.down = Faults(latency_seconds=SLOW_SECONDS)
        await fires(watching, "SluiceAcknowledgementBudgetFastBurn")
        await fires(watching, "SluiceAcknowledgementBudgetSlowBurn")
        await operator.follow("acknowledgement-budget", "slowlog get 10")
        fleet.redis_line.heal()
        await ends(watching, *burns)


async def test_calls_succeed_when_redis_is_back(fleet: WatchedFleet) -> None:
    watching, operator = fleet.watching, fleet.operator
    burns = ("SluiceAvailabilityBudgetFastBurn", "SluiceAvailabilityBudgetSlowBurn")
    await ends(watching, *burns)
    async with repeating(lambda: fleet.upload(bytes(1000))):
        fleet.redis_line.refuse()
        await fires(watching, "SluiceAvailabilityBudgetFastBurn")
        await fires(watching, "SluiceAvailabilityBudgetSlowBurn")
        assert "REDIS_UNAVAILABLE" in await operator.follow("availability-budget", "rpc.failed")
        fleet.redis_line.heal()
        await ends(watching, *burns)


# ------------------------------------------------------------------ MySQL


async def test_requests_succeed_when_mysql_is_back(fleet: WatchedFleet) -> None:
    """The same outage stops the sweeper."""
    watching, operator = fleet.watching, fleet.operator
    burns = ("SluiceGatewayBudgetFastBurn", "SluiceGatewayBudgetSlowBurn")
    await ends(watching, "SluiceSweeperBehind", *burns)
    async with (
        photo_user(lambda: fleet.gateways) as user,
        repeating(lambda: user.once("GET", "/queries/upload-jobs")),
    ):
        fleet.mysql_line.refuse()
        await fires(watching, "SluiceGatewayBudgetFastBurn", "SluiceGatewayBudgetSlowBurn")
        await fires(watching, "SluiceSweeperBehind")
        assert "CATALOGUE_UNAVAILABLE" in await operator.follow(
            "gateway-budget", "grep -E 'request.failed"
        )
        assert '"role": "sweeper"' in await operator.follow(
            "sweeper-behind", "grep -E 'sweep.item_failed"
        )
        fleet.mysql_line.heal()
        await ends(watching, "SluiceSweeperBehind", *burns)


async def test_missing_table_is_restored(fleet: WatchedFleet) -> None:
    """No retry is meant for that."""
    watching, operator = fleet.watching, fleet.operator
    mysql, name = mysql_server.shared_server(), fleet.services.mysql_url.rpartition("/")[2]
    await ends(watching, "SluiceRoleErrors")
    mysql.run(f"RENAME TABLE {name}.outbox TO {name}.outbox_aside")
    try:
        await fires(watching, "SluiceRoleErrors")
        assert "outbox" in await operator.follow("role-errors", "role.failed")
    finally:
        mysql.run(f"RENAME TABLE {name}.outbox_aside TO {name}.outbox")
    await fleet.upload(bytes(1000))
    await ends(watching, "SluiceRoleErrors")


async def test_wrong_usage_is_corrected(fleet: WatchedFleet) -> None:
    """Rows of an older copy of the database: nothing is left to mend."""
    watching, operator = fleet.watching, fleet.operator
    mysql, name = mysql_server.shared_server(), fleet.services.mysql_url.rpartition("/")[2]
    await ends(watching, "SluiceQuotaDrift")
    await fleet.upload(bytes(1000))
    totals = f"{name}.usage_totals"
    await until(
        lambda: mysql.run(f"SELECT 1 FROM {totals} WHERE reconciled_at > 0"),
        SECONDS,
        "the sweeper has counted the drive",
    )
    mysql.run(f"UPDATE {totals} SET bytes = bytes + 1000, reconciled_at = 0")
    await fires(watching, "SluiceQuotaDrift")
    assert DRIVE in await operator.follow("quota-drift", "grep usage.corrected")
    assert DRIVE in await operator.follow("quota-drift", "quota show NAME", NAME=DRIVE)
    await ends(watching, "SluiceQuotaDrift")


# ------------------------------------------------------------------ the object store


async def test_sweeper_may_abort_multiparts_again(fleet: WatchedFleet) -> None:
    watching, operator = fleet.watching, fleet.operator
    await ends(watching, "SluiceSweeperItemsFail")
    fleet.s3_faults.add(HttpFault(403, DENIED, method="DELETE", times=None))
    upload_id = await fleet.send(bytes(20 * MIB))
    await until(lambda: is_part_stored(fleet, upload_id), SECONDS, "a part is stored")
    await operator.follow("budget-full", "sluice abort UPLOAD", UPLOAD=upload_id)
    await fires(watching, "SluiceSweeperItemsFail")
    assert "STORE_DENIED" in await operator.follow("sweeper-behind", "grep -E 'sweep.item_failed")
    fleet.s3_faults.clear()
    await ends(watching, "SluiceSweeperItemsFail")
    await until(lambda: nothing_is_left(fleet), SECONDS, "nothing is left behind")


async def nothing_is_left(fleet: WatchedFleet) -> bool:
    return not await asyncio.to_thread(fleet.services.leftovers)


async def is_part_stored(fleet: WatchedFleet, upload_id: str) -> bool:
    return bool((await fleet.wire.status(upload_id)).stored_bytes)


# ------------------------------------------------------------------ Kafka


async def test_events_are_published_when_kafka_is_back(fleet: WatchedFleet) -> None:
    watching, operator = fleet.watching, fleet.operator
    await ends(watching, "SluiceEventsOld")
    await fleet.upload(bytes(1000))
    fleet.broker.pause()
    try:
        await fleet.upload(bytes(1000))
        await fires(watching, "SluiceEventsOld")
        assert "relay" in await operator.follow("events-old", "grep relay")
        counted = await operator.follow("events-old", "SELECT count(*), min(row_id)")
        assert int(counted.splitlines()[-1].split()[0]) >= 1
        assert "relay" in await operator.follow("events-old", "SELECT * FROM leases")
    finally:
        fleet.broker.resume()
    await ends(watching, "SluiceEventsOld")


async def test_topic_takes_larger_events_again(fleet: WatchedFleet) -> None:
    watching, operator = fleet.watching, fleet.operator
    await ends(watching, "SluiceEventsWithheld")
    await fleet.upload(bytes(1000))
    limit = "max.message.bytes=4194304"
    await operator.follow("events-withheld", limit, **{limit: "max.message.bytes=800"})
    await fleet.upload(bytes(1000), "long/" * 180 + "path")
    await fires(watching, "SluiceEventsWithheld")
    assert "event.refused" in await operator.follow("events-withheld", "grep event.refused")
    await operator.follow("events-withheld", limit)
    await ends(watching, "SluiceEventsWithheld", seconds=WITHHELD_SECONDS)
