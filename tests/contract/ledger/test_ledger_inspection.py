"""What operators see of an upload (`InspectionLedger`). Nothing that they do changes it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_backends.embedded.ledger.reader import open_sqlite_ledger_reader
from sluice_core.errors import NotFound, Unavailable
from sluice_core.ports.inspection import InspectedPart, Lease, PartState, WorkLeft
from sluice_core.uploads.checksums import crc32c
from support.ledgers import LEASE_SECONDS, PART_BYTES, ROOMY, Driver, FakeClock, sqlite

CONTENT = b"0123456789abcdef" * 2 + b"rest"


async def _with_a_part_in_each_state(driver: Driver) -> str:
    """Return an upload: part 1 stored, part 2 under a lease, part 3 half full."""
    upload_id = await driver.create(chunk_size=4, expected_size=40)
    await driver.send_all(upload_id, CONTENT, 4)
    first = await driver.claim(upload_id, 1, "first worker")
    record = replace(await driver.record_of(first), etag="etag:with:colons")
    await driver.ledger.record_part(first, record)
    await driver.claim(upload_id, 2, "second worker with blanks")
    return upload_id


async def test_the_parts_of_an_upload_in_every_state(driver: Driver) -> None:
    upload_id = await _with_a_part_in_each_state(driver)
    before = await driver.ledger.get(upload_id)

    first, second, third = await driver.ledger.inspect_parts(upload_id, 0, 10)
    crc = crc32c(CONTENT[:PART_BYTES])
    state = PartState.STORED
    assert first == InspectedPart(1, 0, 3, state, 4, PART_BYTES, "etag:with:colons", crc, None)
    assert (second.state, second.etag, second.crc32c) == (PartState.READY, "", None)
    assert second.lease is not None
    until = driver.clock.now + LEASE_SECONDS
    assert second.lease == Lease("second worker with blanks", second.lease.counter, until)
    assert (third.state, third.received_chunks, third.lease) == (PartState.FILLING, 1, None)

    assert await driver.ledger.inspect_parts(upload_id, 1, 1) == [second]
    assert await driver.ledger.inspect_parts(upload_id, 3, 10) == []
    driver.clock.advance(LEASE_SECONDS + 1)
    seen = await driver.ledger.inspect(upload_id)
    assert (seen.snapshot, seen.now) == (before, driver.clock.now)
    assert seen.queued_bytes == PART_BYTES + 4
    assert seen.completion_lease is None
    # The lease is over, and looking at it has not taken it: another worker can.
    assert (await driver.claim(upload_id, 2, "third worker")).plan.number == 2


async def _work_left(driver: Driver) -> WorkLeft:
    """Return it after a search: on a cluster, that removes what is done from the sets."""
    await driver.ledger.ready_work(10)
    await driver.ledger.pending_events(10)
    return await driver.ledger.work_left()


async def test_the_work_that_is_left(driver: Driver) -> None:
    assert await driver.ledger.work_left() == WorkLeft(0, 0, 0)
    upload_id = await _with_a_part_in_each_state(driver)
    assert await _work_left(driver) == WorkLeft(0, 1, 1)
    await driver.ledger.withhold_events(upload_id, 60)
    assert (await _work_left(driver)).with_events == 1
    seen = await driver.ledger.inspect(upload_id)
    assert (seen.events_pending, seen.events_withheld_until) == (1, driver.clock.now + 60)
    driver.clock.advance(61)
    await driver.ledger.events_published(upload_id, 10)
    assert (await _work_left(driver)).with_events == 0

    await driver.ledger.abort(upload_id)
    assert await _work_left(driver) == WorkLeft(0, 0, 1)
    ended = await driver.ledger.inspect(upload_id)
    assert ended.next_cleanup_at == driver.clock.now
    await driver.ledger.cleanup_done(upload_id)
    assert (await driver.ledger.inspect(upload_id)).cleanups_done == 1


async def test_the_lease_of_a_completion(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"whole", is_last=True)
    await driver.complete(upload_id)
    assert (await driver.ledger.work_left()).completing == 1
    await driver.store_all()
    await driver.ledger.claim_completion(upload_id, "completer", LEASE_SECONDS)
    lease = (await driver.ledger.inspect(upload_id)).completion_lease
    assert lease is not None
    assert lease.holder == "completer"


async def test_an_unknown_upload_has_nothing_to_see(driver: Driver) -> None:
    with pytest.raises(NotFound):
        await driver.ledger.inspect("nonexistent-upload")
    with pytest.raises(NotFound):
        await driver.ledger.inspect_parts("nonexistent-upload", 0, 10)


async def test_a_file_is_read_beside_its_owner(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        driver = Driver(ledger, clock)
        upload_id = await _with_a_part_in_each_state(driver)
        async with open_sqlite_ledger_reader(tmp_path / "ledger.db", ROOMY, clock=clock) as reader:
            assert await reader.inspect(upload_id) == await ledger.inspect(upload_id)
            assert reader.nonce == ledger.nonce
            later = await driver.create()
            assert (await reader.get(later)).upload_id == later
            # A rule that writes fails, and the owner does not wait for it.
            with pytest.raises(Unavailable):
                await reader.abort(upload_id)
            await ledger.abort(upload_id)
            assert (await reader.inspect(upload_id)).snapshot.status == "ABORTED"
    # Nor does it need an owner. The claim of the killed one is shown as it was left.
    async with open_sqlite_ledger_reader(tmp_path / "ledger.db", ROOMY, clock=clock) as reader:
        assert (await reader.inspect(upload_id)).snapshot.status == "ABORTED"


async def test_a_cancelled_read_of_a_file_ends_before_the_next_one(tmp_path: Path) -> None:
    """Its thread cannot be cancelled, and the connection is for one at a time."""
    clock = FakeClock()
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        upload_id = await Driver(ledger, clock).create()
    runs, interrupted = threading.Event(), threading.Event()
    async with open_sqlite_ledger_reader(tmp_path / "ledger.db", ROOMY, clock=clock) as reader:
        connection = reader._connection

        class Interruptible:
            def __getattr__(self, name: str) -> object:
                return getattr(connection, name)

            def interrupt(self) -> None:
                interrupted.set()

        def read(_: object) -> None:
            runs.set()
            interrupted.wait()

        reader._connection = Interruptible()  # type: ignore[assignment]
        reading = asyncio.create_task(reader._run(read))
        await asyncio.to_thread(runs.wait)
        reading.cancel()
        try:
            assert (await reader.inspect(upload_id)).snapshot.upload_id == upload_id
        finally:
            interrupted.set()
        with pytest.raises(asyncio.CancelledError):
            await reading
