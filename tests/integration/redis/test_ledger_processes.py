"""Several ledgers on one Redis, as in several processes.

`together` holds the server until all calls have arrived there, so that they really meet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TypeVar

import pytest

from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.ledger.announcements import Announcements
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import SluiceError
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports import Acceptance, Admission, UploadLedger, Verdict
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import PartPlan, UploadSnapshot, UploadStatus
from sluice_core.uploads.states import is_terminal
from support.ledgers import LEASE_SECONDS, PART_BYTES, ROOMY, Driver, FakeClock
from support.redis_ledgers import StagingLedger, opened
from support.redis_server import RedisServer
from support.waiting import until

T = TypeVar("T")

CHUNK = 8

SECONDS = 20.0
"""Generous limit for an announcement to arrive, also on a loaded machine."""


class Processes:
    """Ledgers that share only Redis."""

    def __init__(self, server: RedisServer, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack
        self._redis = RedisOptions(server.url)
        self.clock = FakeClock()

    async def start(self, count: int, options: LedgerOptions = ROOMY) -> list[StagingLedger]:
        """Start ledgers on separate connections."""
        return [
            await self._stack.enter_async_context(opened(self._redis, options, self.clock))
            for _ in range(count)
        ]

    async def together(self, *calls: Awaitable[T]) -> list[T | SluiceError]:
        """Return the outcomes of calls that reach the server simultaneously."""
        with self._server.client() as client:
            client.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
            tasks = [asyncio.ensure_future(call) for call in calls]
            try:
                await asyncio.sleep(0.05)  # all calls are sent, none can have been answered
                assert not any(task.done() for task in tasks)
            finally:
                client.execute_command("CLIENT", "UNPAUSE")
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            assert not isinstance(outcome, BaseException) or isinstance(outcome, SluiceError)
        return outcomes  # type: ignore[return-value]


@pytest.fixture
async def processes(server: RedisServer) -> AsyncIterator[Processes]:
    async with AsyncExitStack() as stack:
        yield Processes(server, stack)


@pytest.fixture
def unpolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable polling: only announcements cause reads."""
    for name in ("_POLL_SECONDS", "_ASK_AGAIN_SECONDS"):
        monkeypatch.setattr(f"sluice_backends.redis.ledger.ledger.{name}", 10 * SECONDS)


def answers(outcomes: list[T | SluiceError], kind: type[T]) -> list[T]:
    return [outcome for outcome in outcomes if isinstance(outcome, kind)]


def reasons(outcomes: list[T | SluiceError]) -> list[str]:
    return [outcome.reason for outcome in outcomes if isinstance(outcome, SluiceError)]


# ------------------------------------------------------------------ rules 1, 2, 5 and 9


@pytest.mark.rule(1)
async def test_rule_1_one_of_many_contents_is_accepted(processes: Processes) -> None:
    ledgers = await processes.start(4)
    driver = Driver(ledgers[0], processes.clock)
    upload_id = await driver.create()
    offers = [await ledger.stage(driver.offer(upload_id, 0, CHUNK)) for ledger in ledgers]
    outcomes = await processes.together(
        *(
            ledger.bare.accept_chunk(offer, n)
            for n, (ledger, offer) in enumerate(zip(ledgers, offers, strict=True))
        )
    )
    (accepted,) = answers(outcomes, Acceptance)
    assert reasons(outcomes) == ["CHUNK_CONFLICT"] * 3
    (chunk,) = await ledgers[1].part_chunks(upload_id, _plan(0), -1, 10)
    assert chunk == accepted.chunk


@pytest.mark.rule(2)
async def test_rule_2_one_of_equal_chunks_is_new(processes: Processes) -> None:
    ledgers = await processes.start(4)
    driver = Driver(ledgers[0], processes.clock)
    upload_id = await driver.create()
    offers = [await ledger.stage(driver.offer(upload_id, 0, CHUNK)) for ledger in ledgers]
    outcomes = await processes.together(
        *(ledger.bare.accept_chunk(offer, 7) for ledger, offer in zip(ledgers, offers, strict=True))
    )
    verdicts = sorted(acceptance.verdict for acceptance in answers(outcomes, Acceptance))
    assert verdicts == [Verdict.DUPLICATE] * 3 + [Verdict.NEW]
    assert (await ledgers[0].backlog()).queued_bytes == CHUNK


@pytest.mark.rule(5)
async def test_rule_5_processes_share_one_budget(
    processes: Processes,
) -> None:
    options = replace(ROOMY, budget_bytes=5 * CHUNK, max_chunk_bytes=CHUNK)
    ledgers = await processes.start(4, options)
    driver = Driver(ledgers[0], processes.clock)
    uploads = [await driver.create(chunk_size=CHUNK) for _ in range(3)]
    # Chunks of the second part: none may use the reserve.
    offers = [driver.offer(upload_id, 2, CHUNK) for upload_id in uploads for _ in range(4)]
    outcomes = await processes.together(
        *(ledgers[n % 4].admit_chunk(offer) for n, offer in enumerate(offers))
    )
    granted = [admission for admission in answers(outcomes, Admission) if admission.granted]
    assert len(granted) == 5
    assert (await ledgers[3].backlog()).reserved_bytes == 5 * CHUNK


# ------------------------------------------------------------------ rules 8, 15, 16 and 18


@pytest.mark.rule(15)
async def test_rule_15_one_worker_gets_a_part(processes: Processes) -> None:
    ledgers = await processes.start(4)
    driver = Driver(ledgers[0], processes.clock)
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"x" * PART_BYTES)
    outcomes = await processes.together(
        *(
            ledger.claim_part(upload_id, 1, f"worker-{n}", LEASE_SECONDS)
            for n, ledger in enumerate(ledgers)
        )
    )
    assert sum(outcome is not None for outcome in outcomes) == 1


@pytest.mark.rule(16)
async def test_rule_16_late_record_leaves_one_etag(processes: Processes) -> None:
    ledgers = await processes.start(2)
    driver = Driver(ledgers[0], processes.clock)
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"x" * PART_BYTES)
    late = await driver.claim(upload_id, 1, "late")
    record = await driver.record_of(late)
    processes.clock.advance(LEASE_SECONDS)
    claim = await Driver(ledgers[1], processes.clock).claim(upload_id, 1, "next")
    outcomes = await processes.together(
        ledgers[0].record_part(late, replace(record, etag="late")),
        ledgers[1].record_part(claim, replace(record, etag="next")),
    )
    assert reasons(outcomes) == ["FENCED"]
    (stored,) = await ledgers[0].stored_parts(upload_id, 0, 10)
    assert stored.etag == "next"


@pytest.mark.rule(8)
async def test_rule_8_rejection_racing_completion_leaves_no_gap(
    processes: Processes,
) -> None:
    ledgers = await processes.start(2)
    driver = Driver(ledgers[0], processes.clock)
    for completes_first in (True, False):
        upload_id = await driver.create()
        await driver.send(upload_id, 0, b"x" * PART_BYTES)
        claim = await driver.claim(upload_id, 1)
        calls = [
            ledgers[0].request_completion(upload_id, 1, None, None),
            ledgers[1].reject_chunk(claim, 0),
        ]
        await processes.together(*(calls if completes_first else reversed(calls)))
        snapshot = await ledgers[0].get(upload_id)
        assert (snapshot.status, snapshot.received_chunks) == (UploadStatus.UPLOADING, 0)
        assert await driver.ready() == []


@pytest.mark.rule(18)
async def test_rule_18_one_completer_and_one_end(processes: Processes) -> None:
    ledgers = await processes.start(3)
    driver = Driver(ledgers[0], processes.clock)
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"abc", is_last=True)
    await driver.complete(upload_id)
    await driver.store_all()
    claims = await processes.together(
        *(
            ledger.claim_completion(upload_id, f"completer-{n}", LEASE_SECONDS)
            for n, ledger in enumerate(ledgers)
        )
    )
    (claim,) = [claim for claim in claims if claim is not None]
    assert not isinstance(claim, SluiceError)
    outcomes = await processes.together(
        ledgers[0].finish(claim, crc32c(b"abc"), None),
        ledgers[1].fail(upload_id, "GIVEN_UP", "by another"),
        ledgers[2].abort(upload_id),
    )
    await _one_end(ledgers[0], upload_id, answers(outcomes, UploadSnapshot))


@pytest.mark.rule(18)
async def test_rule_18_racing_ends_leave_one_terminal_state(processes: Processes) -> None:
    ledgers = await processes.start(4)
    driver = Driver(ledgers[0], processes.clock)
    for _ in range(5):
        upload_id = await driver.create()
        await driver.send(upload_id, 0, b"abc")
        processes.clock.advance(24 * 3600)
        await driver.ledger.expire_due(10)
        processes.clock.advance(60)
        offer = await ledgers[2].stage(driver.offer(upload_id, 1, 3))
        await processes.together(
            ledgers[0].abort(upload_id),
            ledgers[1].fail(upload_id, "GIVEN_UP", "by another"),
            ledgers[2].bare.accept_chunk(offer, 1),
            ledgers[3].expire_due(10),
        )
        snapshot = await ledgers[0].get(upload_id)
        if is_terminal(snapshot.status):
            await _one_end(ledgers[0], upload_id, [snapshot])
        else:
            raise AssertionError(snapshot)
    assert (await ledgers[0].backlog()).queued_bytes == 0


@pytest.mark.rule(22)
async def test_rule_22_concurrent_duplicate_requests_create_one_upload(
    processes: Processes,
) -> None:
    ledgers = await processes.start(3)
    driver = Driver(ledgers[0], processes.clock)
    new = driver.new()
    outcomes = await processes.together(*(ledger.create(new) for ledger in ledgers))
    assert len(set(map(repr, outcomes))) == 1
    assert [event.type for event in await ledgers[0].pending_events(10)] == ["UploadInitiated"]


@pytest.mark.rule(22)
async def test_rule_22_only_existing_uploads_are_read_back(processes: Processes) -> None:
    here, there = await processes.start(2)
    new = replace(Driver(here, processes.clock).new(), metadata={"a": "b"}, expected_size=7)
    opened = await here.create(new)
    assert opened.new == new
    assert here.calls("hget") == 0
    again = await there.create(replace(new, node_id=f"{new.node_id}-other"))
    assert again == opened
    assert there.calls("hget") == 1


# ------------------------------------------------------------------ rules 9 and 27: announcements


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
    await here.hears_of(upload_id)  # that was the last chunk
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
    await here.hears_of(upload_id)
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
                server.go_on()
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
        await ledger.hears_of(upload_id)
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
    await here.hears_of(upload_id)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await driver.store(upload_id, 1)
    async with asyncio.timeout(SECONDS):
        await waiting
    assert (await here.admit_chunk(offer)).granted


# ------------------------------------------------------------------


async def _one_end(ledger: UploadLedger, upload_id: str, ended: list[UploadSnapshot]) -> None:
    assert len({snapshot.status for snapshot in ended}) == 1
    events = [event.type for event in await ledger.upload_events(upload_id)]
    ends = {"UploadAborted", "UploadFailed", "UploadExpired"}
    completed = ended[0].status is UploadStatus.COMPLETED
    assert len([event for event in events if event in ends]) == (0 if completed else 1)


def _plan(chunk: int) -> PartPlan:
    return PartPlan(1, chunk, chunk)
