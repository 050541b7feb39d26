"""Events, watching, listing, expiry and clean-up: rules 22 to 27."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from sluice.events.v1 import uploads_pb2
from sluice_core.errors import FailedPrecondition, InvalidArgument, NotFound
from sluice_core.events.uploads import to_record
from sluice_core.ledger.lifecycle import encode_cursor
from sluice_core.uploads.ids import event_id
from sluice_core.uploads.model import UploadSnapshot, UploadStatus
from support.ledgers import DAY, HOUR, Driver, OpenDriver

ALL = frozenset[UploadStatus]()


async def event_types(driver: Driver, upload_id: str) -> list[str]:
    return [event.type for event in await driver.ledger.upload_events(upload_id)]


@pytest.mark.rule(22)
async def test_rule_22_transition_appends_its_event(driver: Driver) -> None:
    aborted = await driver.create(expected_size=7, trace_parent="00-trace")
    await driver.ledger.abort(aborted)
    failed = await driver.create()
    await driver.ledger.fail(failed, "BUCKET_NOT_FOUND", "gone")
    assert await event_types(driver, aborted) == ["UploadInitiated", "UploadAborted"]
    assert await event_types(driver, failed) == ["UploadInitiated", "UploadFailed"]

    initiated, ended = await driver.ledger.upload_events(aborted)
    message = uploads_pb2.UploadInitiated.FromString(initiated.payload)
    assert (message.upload_id, message.expected_size) == (aborted, 7)
    assert (message.header.sequence, message.header.tenant) == (1, "acme")
    assert (initiated.sequence, ended.sequence) == (1, 2)
    assert (
        initiated.event_id
        == event_id(message.node_id, "UploadInitiated", 1)
        == message.header.event_id
    )
    record = to_record(initiated)
    assert record.type == "sluice.events.v1.UploadInitiated"
    assert (record.topic, record.key) == ("sluice.uploads.v1", message.node_id)
    assert record.headers == {"traceparent": "00-trace"}

    (_, failure) = await driver.ledger.upload_events(failed)
    assert uploads_pb2.UploadFailed.FromString(failure.payload).reason == "BUCKET_NOT_FOUND"


@pytest.mark.rule(22)
async def test_rule_22_repeated_call_appends_no_second_event(driver: Driver) -> None:
    new = driver.new()
    for _ in range(2):
        await driver.ledger.create(new)
    for _ in range(2):
        await driver.ledger.abort(new.upload_id)
    assert await event_types(driver, new.upload_id) == ["UploadInitiated", "UploadAborted"]


@pytest.mark.rule(22)
async def test_rule_22_catalogue_emits_upload_completed(driver: Driver) -> None:
    assert await event_types(driver, await driver.completed()) == ["UploadInitiated"]


@pytest.mark.rule(22)
async def test_rule_22_ledger_emits_it_without_a_catalogue(open_driver: OpenDriver) -> None:
    driver = await open_driver(emit_completed=True)
    upload_id = await driver.completed(b"hello")
    (_, completed) = await driver.ledger.upload_events(upload_id)
    message = uploads_pb2.UploadCompleted.FromString(completed.payload)
    assert (message.size, message.bucket) == (5, "bucket")


@pytest.mark.rule(22)
async def test_rule_22_pending_events_leave_once_they_are_published(driver: Driver) -> None:
    older = await driver.create()
    driver.clock.advance(1)
    newer = await driver.create()
    await driver.ledger.abort(older)
    pending = await driver.ledger.pending_events(10)
    assert [(e.upload_id, e.sequence) for e in pending] == [(older, 1), (older, 2), (newer, 1)]
    assert len(await driver.ledger.pending_events(2)) == 2
    for _ in range(2):
        await driver.ledger.events_published(older, 1)
    pending = await driver.ledger.pending_events(10)
    assert [(e.upload_id, e.sequence) for e in pending] == [(older, 2), (newer, 1)]


@pytest.mark.rule(27)
async def test_rule_27_the_sequence_grows_with_every_change(driver: Driver) -> None:
    upload_id = await driver.create()
    seen = [(await driver.ledger.get(upload_id)).sequence]
    seen += [
        (await driver.send(upload_id, number, b"x" * 8)).snapshot.sequence for number in range(3)
    ]
    seen.append((await driver.store(upload_id, 1)).snapshot.sequence)
    seen.append((await driver.complete(upload_id, 3)).snapshot.sequence)
    seen.append((await driver.finish(upload_id)).sequence)
    assert all(before < after for before, after in pairwise(seen))


async def next_of(watch: AsyncIterator[UploadSnapshot]) -> UploadSnapshot:
    async with asyncio.timeout(20):  # well below the polling interval
        return await anext(watch)


@pytest.mark.rule(27)
@pytest.mark.usefixtures("no_polling")
async def test_rule_27_watcher_sees_changes_at_once(driver: Driver) -> None:
    upload_id = await driver.create()
    watch = driver.ledger.watch(upload_id, 0)
    first = await next_of(watch)
    assert first.status is UploadStatus.PENDING
    waiting = asyncio.ensure_future(next_of(watch))
    await asyncio.sleep(0.01)
    await driver.send(upload_id, 0, b"abc")
    assert (await waiting).received_bytes == 3
    await driver.ledger.abort(upload_id)
    assert (await next_of(watch)).status is UploadStatus.ABORTED
    with pytest.raises(StopAsyncIteration):
        await next_of(watch)


@pytest.mark.rule(27)
async def test_rule_27_watcher_resumes_after_its_sequence(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.ledger.abort(upload_id)
    ended = await driver.ledger.get(upload_id)
    seen = [s async for s in driver.ledger.watch(upload_id, ended.sequence - 1)]
    assert seen == [ended]
    assert [s async for s in driver.ledger.watch(upload_id, ended.sequence)] == []


@pytest.mark.rule(27)
@pytest.mark.usefixtures("no_polling")
async def test_rule_27_only_end_yields_one_snapshot(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"abc", is_last=True)
    seen = (await driver.complete(upload_id)).snapshot.sequence
    waiting = asyncio.ensure_future(
        next_of(driver.ledger.watch(upload_id, seen, only_end=True)),
    )
    await asyncio.sleep(0.1)
    await driver.store(upload_id, 1)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    ended = await driver.finish(upload_id)
    assert await waiting == ended
    assert [s async for s in driver.ledger.watch(upload_id, 0, only_end=True)] == [ended]
    assert [s async for s in driver.ledger.watch(upload_id, ended.sequence, only_end=True)] == []


async def test_uploads_are_listed_newest_first_in_pages(driver: Driver) -> None:
    made = []
    for _ in range(5):
        made.append(await driver.create())
        driver.clock.advance(1)
    await driver.create(tenant="other")
    await driver.ledger.abort(made[3])
    first = await driver.ledger.list_uploads("acme", ALL, 2, "")
    assert [u.upload_id for u in first.uploads] == [made[4], made[3]]
    await driver.create()  # what begins meanwhile moves no page
    second = await driver.ledger.list_uploads("acme", ALL, 3, first.next_after)
    assert [u.upload_id for u in second.uploads] == [made[2], made[1], made[0]]
    assert second.next_after == ""
    pending = frozenset({UploadStatus.PENDING})
    page = await driver.ledger.list_uploads("acme", pending, 10, first.next_after)
    assert [u.upload_id for u in page.uploads] == [made[2], made[1], made[0]]
    last = first.uploads[-1]
    assert first.next_after == encode_cursor(last.created_at, last.upload_id)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        " ",
        *(f"{number} u-1" for number in ("nan", "inf", "-inf", "-1.0", "1e300", "1e3", "1_0.0")),
        *(f"{number} u-1" for number in ("1", "0x10", "1.0 ", "1.0\n", "\u0661.0", "1" * 5000)),
        "1.0",
        "1.0 ",
        "1.0 {u}",
        "1.0 u 1",
        f"1.0 {'u' * 129}",
    ],
)
async def test_forged_cursor_is_rejected(driver: Driver, text: str) -> None:
    """Its number must be one that `encode_cursor` writes."""
    await driver.create()
    for cursor in (base64.urlsafe_b64encode(text.encode()).decode(), text or "="):
        with pytest.raises(InvalidArgument) as refused:
            await driver.ledger.list_uploads("acme", ALL, 10, cursor)
        assert (refused.value.reason, refused.value.field) == ("BAD_PAGE_TOKEN", "page_token")


async def test_uploads_with_equal_times_are_listed_once_each(driver: Driver) -> None:
    made = {await driver.create() for _ in range(5)}
    seen, after = [], ""
    while True:
        page = await driver.ledger.list_uploads("acme", ALL, 2, after)
        seen += [upload.upload_id for upload in page.uploads]
        if not page.next_after:
            break
        after = page.next_after
    assert len(seen) == 5
    assert set(seen) == made


async def expire(driver: Driver) -> list[tuple[str, str]]:
    return [(s.upload_id, s.failure_reason) for s in await driver.ledger.expire_due(100)]


@pytest.mark.rule(24)
async def test_rule_24_idle_upload_expires_on_the_second_sighting(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"abc")
    driver.clock.advance(DAY - 1)
    assert await expire(driver) == []
    driver.clock.advance(2)
    assert await expire(driver) == []
    driver.clock.advance(59)
    assert await expire(driver) == []
    driver.clock.advance(1)
    assert await expire(driver) == [(upload_id, "IDLE")]
    assert await expire(driver) == []
    assert await driver.status(upload_id) is UploadStatus.EXPIRED
    assert await event_types(driver, upload_id) == ["UploadInitiated", "UploadExpired"]
    assert (await driver.ledger.backlog()).queued_bytes == 0


@pytest.mark.rule(24)
async def test_rule_24_a_chunk_in_between_keeps_the_upload(driver: Driver) -> None:
    upload_id = await driver.create()
    driver.clock.advance(DAY)
    assert await expire(driver) == []
    await driver.send(upload_id, 0, b"abc")
    driver.clock.advance(HOUR)
    assert await expire(driver) == []
    driver.clock.advance(DAY)
    assert await expire(driver) == []  # a first sighting again


@pytest.mark.rule(24)
async def test_rule_24_busy_upload_expires_after_a_week(driver: Driver) -> None:
    upload_id = await driver.create()
    driver.clock.advance(7 * DAY)
    await driver.send(upload_id, 0, b"abc")
    assert await expire(driver) == []
    driver.clock.advance(30)
    await driver.send(upload_id, 1, b"abc")
    driver.clock.advance(30)
    assert await expire(driver) == [(upload_id, "TOTAL")]


@pytest.mark.rule(18)
async def test_rule_18_completing_never_expires(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"abc")
    await driver.complete(upload_id, 1)
    for _ in range(3):
        driver.clock.advance(8 * DAY)
        assert await expire(driver) == []


@pytest.mark.rule(25)
async def test_rule_25_leftovers_are_removed_at_once_and_after_an_hour(driver: Driver) -> None:
    live = await driver.create()
    upload_id = await driver.create()
    await driver.ledger.abort(upload_id)

    async def due() -> list[str]:
        return [s.upload_id for s in await driver.ledger.cleanups_due(10)]

    assert await due() == [upload_id]
    assert await due() == [upload_id]
    for _ in range(2):  # a repeated call counts once
        await driver.ledger.cleanup_done(upload_id)
    assert await due() == []
    driver.clock.advance(HOUR)
    assert await due() == [upload_id]
    await driver.ledger.cleanup_done(upload_id)
    driver.clock.advance(DAY)
    assert await due() == []
    with pytest.raises(FailedPrecondition):
        await driver.ledger.cleanup_done(live)


@pytest.mark.rule(24)
async def test_rule_24_an_upload_is_purged_a_day_after_its_end(driver: Driver) -> None:
    upload_id = await driver.completed()
    assert await driver.ledger.purge_due(10) == 0
    await driver.ledger.cleanup_done(upload_id)
    driver.clock.advance(DAY)
    assert await driver.ledger.purge_due(10) == 0  # one clean-up is left
    await driver.ledger.cleanup_done(upload_id)
    assert await driver.ledger.purge_due(10) == 0  # its event is not published
    await driver.ledger.events_published(upload_id, 10)
    assert await driver.ledger.purge_due(10) == 1
    assert await driver.ledger.purge_due(10) == 0
    with pytest.raises(NotFound):
        await driver.ledger.get(upload_id)


async def test_purged_request_id_opens_a_new_upload(driver: Driver) -> None:
    new = driver.new()
    await driver.ledger.create(new)
    await driver.send(new.upload_id, 0, b"abc")
    await driver.ledger.abort(new.upload_id)
    await driver.ledger.events_published(new.upload_id, 10)
    await driver.ledger.cleanup_done(new.upload_id)
    driver.clock.advance(DAY)
    await driver.ledger.cleanup_done(new.upload_id)
    assert await driver.ledger.purge_due(10) == 1
    snapshot = await driver.ledger.create(new)
    assert (snapshot.status, snapshot.received_chunks) == (UploadStatus.PENDING, 0)
    assert (await driver.send(new.upload_id, 0, b"other")).snapshot.received_bytes == 5


async def test_tokens_are_known_while_something_names_them(driver: Driver) -> None:
    upload_id = await driver.create()
    accepted = await driver.send(upload_id, 0, b"abc")
    offer = driver.offer(upload_id, 1, 3)
    await driver.ledger.admit_chunk(offer)
    tokens = [accepted.chunk.token, offer.token, "nobody"]
    known = driver.ledger.known_tokens
    assert await known(upload_id, tokens) == {accepted.chunk.token, offer.token}
    driver.clock.advance(600)
    assert await known(upload_id, tokens) == {accepted.chunk.token}
    await driver.ledger.abort(upload_id)
    assert await known(upload_id, tokens) == frozenset()
    assert await known(driver.new().upload_id, tokens) == frozenset()


@pytest.mark.rule(25)
async def test_due_cleanups_start_at_the_offset(driver: Driver) -> None:
    for _ in range(5):
        driver.clock.advance(1)
        await driver.ledger.abort(await driver.create())
    due = [snapshot.upload_id for snapshot in await driver.ledger.cleanups_due(10)]
    assert len(due) == 5
    assert [one.upload_id for one in await driver.ledger.cleanups_due(2, 1)] == due[1:3]
    assert await driver.ledger.cleanups_due(2, 5) == []
