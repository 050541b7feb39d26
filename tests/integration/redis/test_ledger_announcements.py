"""Announcements between ledgers on one Redis (rules 9 and 27)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.ledger.announcements import Announcements
from sluice_core.uploads.model import UploadSnapshot, UploadStatus
from support.ledger_processes import Processes
from support.ledgers import ROOMY, Driver
from support.redis_ledgers import StagingLedger
from support.redis_server import RedisServer
from support.waiting import until

CHUNK = 8

SECONDS = 20.0
"""Generous limit for an announcement to arrive, also on a loaded machine."""


@pytest.fixture
def unpolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable polling: only announcements cause reads."""
    for name in ("_POLL_SECONDS", "_ASK_AGAIN_SECONDS"):
        monkeypatch.setattr(f"sluice_backends.redis.ledger.ledger.{name}", 10 * SECONDS)


@pytest.mark.rule(27)
@pytest.mark.usefixtures("unpolled")
async def test_rule_27_watcher_is_notified_by_another_process(processes: Processes) -> None:
    here, there = await processes.start(2)
    driver = Driver(there, processes.clock)
    upload_id = await driver.create()
    watch = here.watch(upload_id, 0)
    assert (await anext(watch)).status is UploadStatus.PENDING
    for number in range(3):
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.05)
        await driver.send(upload_id, number, b"abc")
        async with asyncio.timeout(SECONDS):
            while (await waiting).received_chunks <= number:
                waiting = asyncio.ensure_future(anext(watch))
    await watch.aclose()


async def completing(processes: Processes) -> tuple[StagingLedger, Driver, str, int]:
    """Return a ledger subscribed to a COMPLETING upload, the worker of another process that has yet
    to store its only part, the upload's id, and the last sequence of the subscribed process."""
    here, there = await processes.start(2)
    driver = Driver(here, processes.clock)
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"abc", is_last=True)
    await here.wait_until_subscribed(upload_id)  # that was the last chunk
    seen = (await driver.complete(upload_id)).snapshot.sequence
    return here, Driver(there, processes.clock), upload_id, seen


@pytest.mark.rule(27)
@pytest.mark.usefixtures("unpolled")
async def test_rule_27_waiting_for_the_end_reads_once(processes: Processes) -> None:
    here, worker, upload_id, seen = await completing(processes)
    waiting = asyncio.ensure_future(anext(here.watch(upload_id, seen, only_end=True)))
    await asyncio.sleep(0.1)
    await worker.store(upload_id, 1)
    await asyncio.sleep(0.1)
    assert here.calls("ledger_get") == 0
    ended = await worker.finish(upload_id)
    async with asyncio.timeout(SECONDS):
        assert await waiting == ended
    assert here.calls("ledger_get") == 1


@pytest.mark.rule(27)
@pytest.mark.usefixtures("unpolled")
async def test_rule_27_watcher_reads_at_the_next_change(processes: Processes) -> None:
    here, worker, upload_id, seen = await completing(processes)
    waiting = asyncio.ensure_future(anext(here.watch(upload_id, seen)))
    await asyncio.sleep(0.1)
    assert here.calls("ledger_get") == 0
    await worker.store(upload_id, 1)
    async with asyncio.timeout(SECONDS):
        assert (await waiting).stored_chunks == 1
    assert here.calls("ledger_get") == 1


@pytest.mark.rule(27)
@pytest.mark.usefixtures("unpolled")
@pytest.mark.parametrize("only_end", [False, True])
async def test_rule_27_earlier_changes_are_read_at_once(
    processes: Processes, *, only_end: bool
) -> None:
    here, there = await processes.start(2)
    worker = Driver(there, processes.clock)
    upload_id = await worker.create()
    await worker.send(upload_id, 0, b"abc")
    seen = (await worker.complete(upload_id, 1)).snapshot.sequence
    ended = await worker.finish(upload_id)
    async with asyncio.timeout(SECONDS):
        assert [s async for s in here.watch(upload_id, seen, only_end=only_end)] == [ended]


@pytest.mark.rule(27)
@pytest.mark.parametrize("only_end", [False, True])
async def test_rule_27_poll_finds_lost_announcements(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, *, only_end: bool
) -> None:
    monkeypatch.setattr("sluice_backends.redis.ledger.ledger._POLL_SECONDS", 0.5)
    here, worker, upload_id, seen = await completing(processes)
    monkeypatch.setattr(Announcements, "_on_message", lambda *_: None)

    async def watched() -> list[UploadSnapshot]:
        return [snapshot async for snapshot in here.watch(upload_id, seen, only_end=only_end)]

    waiting = asyncio.ensure_future(watched())
    ended = await worker.finish(upload_id)
    async with asyncio.timeout(SECONDS):
        *on_the_way, last = await waiting
    assert last == ended
    # A read may return an intermediate state.
    assert not (only_end and on_the_way)


@pytest.mark.rule(27)
@pytest.mark.usefixtures("unpolled")
async def test_rule_27_lost_subscription_is_renewed(
    processes: Processes, server: RedisServer
) -> None:
    here, there = await processes.start(2)
    driver = Driver(there, processes.clock)
    upload_id = await driver.create()
    watch = here.watch(upload_id, 0)
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await here.wait_until_subscribed(upload_id)
    with server.client() as client:
        assert int(str(client.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))) >= 1
    await driver.send(upload_id, 0, b"abc")
    async with asyncio.timeout(SECONDS):
        assert (await waiting).received_chunks == 1
    await watch.aclose()


@pytest.mark.rule(27)
async def test_rule_27_silent_connection_is_replaced(
    server: RedisServer, clients: RedisClients
) -> None:
    announcements = Announcements(clients, silence_seconds=0.2)

    async def is_subscribed() -> bool:
        return announcements.known_state("u-1") is not None

    async def is_replaced() -> bool:
        return not await is_subscribed()

    async with announcements.listening():
        with announcements.changes("u-1") as changed:
            async with asyncio.timeout(SECONDS):
                await changed.wait()  # the subscription is active
            server.pause()
            try:
                await until(is_replaced, SECONDS, "replaced")
            finally:
                server.resume()
            await until(is_subscribed, SECONDS, "subscribed again")
            changed.clear()
            await clients.execute("u-1", "PUBLISH", "sluice:changed:u-1", 1)
            async with asyncio.timeout(SECONDS):
                await changed.wait()


@pytest.mark.rule(27)
async def test_rule_27_process_has_one_subscription(
    processes: Processes, server: RedisServer
) -> None:
    (ledger,) = await processes.start(1)
    driver = Driver(ledger, processes.clock)
    uploads = [await driver.create() for _ in range(5)]
    watches = [ledger.watch(upload_id, 0) for upload_id in uploads]
    for watch in watches:
        await anext(watch)
    waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
    for upload_id in uploads:
        await ledger.wait_until_subscribed(upload_id)
    with server.client() as client:
        clients = str(client.execute_command("CLIENT", "LIST", "TYPE", "pubsub"))
    assert clients.count("'id'") == 1 or clients.count("id=") == 1
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.rule(9)
@pytest.mark.usefixtures("unpolled")
async def test_rule_9_room_freed_by_another_process_is_notified(processes: Processes) -> None:
    options = replace(ROOMY, budget_bytes=5 * CHUNK, max_chunk_bytes=CHUNK)
    here, there = await processes.start(2, options)
    driver = Driver(there, processes.clock)
    upload_id = await driver.create(chunk_size=CHUNK)
    for number in (0, 1, 2, 4, 6):
        await driver.send(upload_id, number, b"x" * CHUNK)
    offer = driver.offer(upload_id, 8, CHUNK)
    assert not (await here.admit_chunk(offer)).granted
    waiting = asyncio.ensure_future(here.wait_for_room(upload_id, 10 * SECONDS))
    await here.wait_until_subscribed(upload_id)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await driver.store(upload_id, 1)
    async with asyncio.timeout(SECONDS):
        await waiting
    assert (await here.admit_chunk(offer)).granted
