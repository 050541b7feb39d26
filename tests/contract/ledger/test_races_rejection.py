"""Rejection of a chunk while its upload completes (rule 8), on every ledger in every order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import pytest

from sluice_core.errors import SluiceError
from sluice_core.ports import (
    Acceptance,
    ChunkOffer,
    Completion,
    PartClaim,
    Verdict,
)
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import UploadSnapshot, UploadStatus
from support.ledgers import LEASE_SECONDS, PART_BYTES, Driver
from support.races import Actor, at_once, noting_order, orders, outcome, play, reason

CHUNK = PART_BYTES // 2
CONTENT = bytes(range(2 * CHUNK))
FIRST, SECOND = CONTENT[:CHUNK], CONTENT[CHUNK:]


@dataclass
class Contenders:
    """A worker that rejects chunk 0, a client that completes, and a client that resends it."""

    driver: Driver
    upload_id: str
    claim: PartClaim
    repeated: ChunkOffer
    completion: Completion | SluiceError | None = None
    repetition: Acceptance | SluiceError | None = None

    async def reject(self) -> UploadSnapshot:
        return await self.driver.ledger.reject_chunk(self.claim, 0)

    async def complete(self) -> Completion:
        return await self.driver.complete(self.upload_id, 2)

    async def accept(self) -> Acceptance:
        return await self.driver.ledger.accept_chunk(self.repeated, crc32c(FIRST))

    async def completing(self) -> None:
        self.completion = await outcome(self.complete())

    async def repeating(self) -> Actor:
        assert (await self.driver.ledger.admit_chunk(self.repeated)).granted
        yield
        self.repetition = await outcome(self.accept())


async def contenders(driver: Driver) -> Contenders:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, FIRST)
    await driver.send(upload_id, 1, SECOND)
    repeated = driver.offer(upload_id, 0, CHUNK)
    return Contenders(driver, upload_id, await driver.claim(upload_id, 1), repeated)


async def assert_heals(race: Contenders) -> None:
    """Check that the chunk is received or reported missing, and that resending it heals."""
    driver, upload_id = race.driver, race.upload_id
    snapshot = await driver.ledger.get(upload_id)
    missing = await driver.missing(upload_id)
    assert missing == ([] if snapshot.received_chunks == 2 else [(0, 0)])
    assert snapshot.received_bytes == snapshot.received_chunks * CHUNK
    backlog = await driver.ledger.backlog()
    assert (backlog.queued_bytes, backlog.reserved_bytes) == (snapshot.received_bytes, 0)
    if missing:
        assert snapshot.status is UploadStatus.UPLOADING
        again = await driver.send(upload_id, 0, FIRST)
        assert again.verdict is Verdict.NEW
    await driver.complete(upload_id, 2)
    ended = await driver.finish(upload_id)
    assert (ended.status, ended.crc32c) == (UploadStatus.COMPLETED, crc32c(CONTENT))


@pytest.mark.rule(8)
async def test_rejection_races_completion_and_a_repeated_chunk(driver: Driver) -> None:
    for order in orders(1, 1, 2):
        race = await contenders(driver)
        with noting_order(order):
            await play(order, race.reject(), race.completing(), race.repeating())
            rejected, completed = order.index(0), order.index(1)
            accepted = max(at for at, actor in enumerate(order) if actor == 2)
            assert isinstance(race.repetition, Acceptance)
            if accepted < rejected:
                assert race.repetition.verdict is Verdict.DUPLICATE
                assert race.repeated.token in race.repetition.drop_tokens
            else:
                # Admitted as what is in already, it became what is missing: its bytes are needed.
                assert race.repetition.verdict is Verdict.NEW
                assert race.repetition.drop_tokens == ()
            if rejected < completed < accepted or accepted < rejected < completed:
                assert reason(race.completion) == "CHUNKS_MISSING"
            else:
                assert isinstance(race.completion, Completion)
                # What was COMPLETING before the rejection is UPLOADING after it.
                expected = "UPLOADING" if completed < rejected else "COMPLETING"
                assert (await driver.status(race.upload_id)).name == expected
            await assert_heals(race)


@pytest.mark.rule(8)
async def test_concurrent_rejection_completion_and_repeat_heal(
    driver: Driver,
) -> None:
    for order in permutations(["reject", "complete", "accept"]):
        race = await contenders(driver)
        assert (await driver.ledger.admit_chunk(race.repeated)).granted
        calls = {"reject": race.reject, "complete": race.complete, "accept": race.accept}
        with noting_order(order):
            answers = await at_once(*(calls[name]() for name in order))
            refused = [reason(one) for one in answers if isinstance(one, SluiceError)]
            assert refused in ([], ["CHUNKS_MISSING"])
            await assert_heals(race)


@pytest.mark.rule(8, 15)
@pytest.mark.parametrize("late_first", [True, False])
async def test_rejection_by_a_late_worker_is_fenced(driver: Driver, late_first: bool) -> None:
    race = await contenders(driver)
    await race.complete()
    driver.clock.advance(LEASE_SECONDS)
    claim = await driver.claim(race.upload_id, 1, "another")
    record = await driver.record_of(claim)
    calls = [race.reject(), driver.ledger.record_part(claim, record)]
    answers = await at_once(*(calls if late_first else reversed(calls)))
    (fenced,) = (one for one in answers if isinstance(one, SluiceError))
    assert fenced.reason == "FENCED"
    assert (await driver.finish(race.upload_id)).crc32c == crc32c(CONTENT)
