"""Races with a completion (rule 18), on every ledger and in every order. Ledger steps are atomic,
so a test plays every order of the steps, or starts all at once in every order.
"""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest

from sluice_core.errors import SluiceError
from sluice_core.ports import (
    Acceptance,
    ChunkOffer,
    Completion,
    CompletionClaim,
)
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import UploadSnapshot, UploadStatus
from support.ledgers import DAY, LEASE_SECONDS, PART_BYTES, Driver
from support.races import Actor, at_once, noting_order, orders, outcome, play, reason

CHUNK = PART_BYTES // 2
CONTENT = bytes(range(2 * CHUNK))
FIRST, SECOND = CONTENT[:CHUNK], CONTENT[CHUNK:]


async def end_of(driver: Driver, upload_id: str) -> tuple[UploadStatus, list[str]]:
    """Return the status and the ledger's end events."""
    events = await driver.ledger.upload_events(upload_id)
    return await driver.status(upload_id), [event.type for event in events]


# ------------------------------------------------------------------ rule 18: exactly one end


@pytest.mark.rule(18)
@pytest.mark.parametrize("abort_first", [True, False])
async def test_completion_and_abort_exclude_each_other(driver: Driver, abort_first: bool) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, FIRST)
    calls = [driver.ledger.abort(upload_id), driver.complete(upload_id, 1)]
    answers = await at_once(*(calls if abort_first else reversed(calls)))
    (refused,) = (one for one in answers if isinstance(one, SluiceError))
    status, events = await end_of(driver, upload_id)
    if status is UploadStatus.ABORTED:
        assert refused.reason == "UPLOAD_ENDED"
        assert events == ["UploadInitiated", "UploadAborted"]
        assert await driver.ready() == []
    else:
        assert refused.reason == "UPLOAD_COMPLETING"
        assert (await driver.finish(upload_id)).status is UploadStatus.COMPLETED
        assert events == ["UploadInitiated"]


@pytest.mark.rule(18)
async def test_completion_and_a_later_chunk_exclude_each_other(
    driver: Driver,
) -> None:
    for order in orders(1, 2):
        upload_id = await driver.create()
        await driver.send(upload_id, 0, FIRST)
        offer = driver.offer(upload_id, 1, CHUNK)
        said: dict[str, object] = {}

        async def completing(upload_id: str = upload_id, said: dict[str, object] = said) -> None:
            said["completion"] = await outcome(driver.complete(upload_id, 1))

        async def sending(offer: ChunkOffer = offer, said: dict[str, object] = said) -> Actor:
            said["chunk"] = await outcome(driver.ledger.admit_chunk(offer))
            yield
            said["chunk"] = await outcome(driver.ledger.accept_chunk(offer, crc32c(SECOND)))

        with noting_order(order):
            await play(order, completing(), sending())
            if order[-1] == 1:
                assert isinstance(said["completion"], Completion)
                assert reason(said["chunk"]) == "UPLOAD_COMPLETING"
                await driver.ledger.release_chunk(offer)  # as an intake does after a refusal
                ended = await driver.finish(upload_id)
                assert ended.crc32c == crc32c(FIRST)
            else:
                assert isinstance(said["chunk"], Acceptance)
                assert reason(said["completion"]) == "TOTAL_MISMATCH"
                await driver.complete(upload_id, 2)
                assert (await driver.finish(upload_id)).crc32c == crc32c(CONTENT)
            assert (await driver.ledger.backlog()).reserved_bytes == 0


@pytest.mark.rule(18)
@pytest.mark.parametrize("chunk_first", [True, False])
async def test_completion_concurrent_with_the_last_missing_chunk(
    driver: Driver, chunk_first: bool
) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, FIRST)
    offer = driver.offer(upload_id, 1, CHUNK)
    assert (await driver.ledger.admit_chunk(offer)).granted
    calls = [
        driver.ledger.accept_chunk(offer, crc32c(SECOND)),
        driver.complete(upload_id, 2),
    ]
    answers = await at_once(*(calls if chunk_first else reversed(calls)))
    refused = [reason(one) for one in answers if isinstance(one, SluiceError)]
    assert refused in ([], ["CHUNKS_MISSING"])
    if refused:
        await driver.complete(upload_id, 2)
    assert (await driver.finish(upload_id)).crc32c == crc32c(CONTENT)


@pytest.mark.rule(18, 24)
@pytest.mark.parametrize("expiry_first", [True, False])
async def test_completion_and_expiry_exclude_each_other(driver: Driver, expiry_first: bool) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, FIRST)
    driver.clock.advance(DAY + 1)
    assert await driver.ledger.expire_due(10) == []  # seen once
    driver.clock.advance(60)
    completion: object = None
    expired: list[str] = []

    async def expire() -> None:
        expired.extend(one.upload_id for one in await driver.ledger.expire_due(10))

    async def complete() -> None:
        nonlocal completion
        completion = await outcome(driver.complete(upload_id, 1))

    calls = [expire(), complete()]
    await at_once(*(calls if expiry_first else reversed(calls)))
    status, events = await end_of(driver, upload_id)
    if expired:
        assert (expired, status) == ([upload_id], UploadStatus.EXPIRED)
        assert reason(completion) == "UPLOAD_ENDED"
        assert events == ["UploadInitiated", "UploadExpired"]
    else:
        assert isinstance(completion, Completion)
        assert (await driver.finish(upload_id)).status is UploadStatus.COMPLETED
        assert (await end_of(driver, upload_id))[1] == ["UploadInitiated"]


@pytest.mark.rule(18)
async def test_two_completions_with_other_claims_settle_on_one(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, FIRST)
    answers = await at_once(
        *(
            driver.ledger.request_completion(upload_id, 1, bytes([number]) * 32, None)
            for number in range(4)
        )
    )
    (settled,) = (one for one in answers if isinstance(one, Completion))
    assert [reason(one) for one in answers if isinstance(one, SluiceError)] == [
        "CLAIM_MISMATCH"
    ] * 3
    assert (await driver.ledger.get(upload_id)).new.sha256 == settled.snapshot.new.sha256


@pytest.mark.rule(18)
@pytest.mark.parametrize("part_first", [True, False])
async def test_last_part_or_completion_reports_completion_ready(
    driver: Driver, part_first: bool
) -> None:
    """The second one has to report it; otherwise no worker would complete the upload."""
    upload_id = await driver.create()
    await driver.send(upload_id, 0, FIRST, is_last=True)
    claim = await driver.claim(upload_id, 1)
    calls = [
        driver.ledger.record_part(claim, await driver.record_of(claim)),
        driver.complete(upload_id),
    ]
    answers = await at_once(*(calls if part_first else reversed(calls)))
    said = [one.completion_ready for one in answers if isinstance(one, Completion)]
    assert sorted(said) == [False, True]
    assert (await driver.finish(upload_id)).status is UploadStatus.COMPLETED


# ------------------------------------------------------------------ rule 18: one completer


async def stored_upload(driver: Driver) -> str:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, FIRST, is_last=True)
    await driver.store(upload_id, 1)
    await driver.complete(upload_id)
    return upload_id


@pytest.mark.rule(18)
async def test_one_of_concurrent_completers_claims_the_upload(driver: Driver) -> None:
    upload_id = await stored_upload(driver)
    claims = await at_once(
        *(
            driver.ledger.claim_completion(upload_id, f"completer-{number}", LEASE_SECONDS)
            for number in range(8)
        )
    )
    (claim,) = (one for one in claims if isinstance(one, CompletionClaim))
    assert [one for one in claims if one is not claim] == [None] * 7
    ended = await driver.ledger.finish(claim, crc32c(FIRST), None)
    assert ended.status is UploadStatus.COMPLETED


@pytest.mark.rule(18)
@pytest.mark.parametrize("late_first", [True, False])
async def test_successor_of_a_late_completer_finishes(driver: Driver, late_first: bool) -> None:
    upload_id = await stored_upload(driver)
    late = await driver.claim_completion(upload_id, "late")
    driver.clock.advance(LEASE_SECONDS)
    successor = await driver.claim_completion(upload_id, "successor")
    calls = [
        driver.ledger.finish(late, 1, b"\x01" * 32),
        driver.ledger.finish(successor, crc32c(FIRST), None),
    ]
    answers = await at_once(*(calls if late_first else reversed(calls)))
    assert [reason(one) for one in answers if isinstance(one, SluiceError)] == ["FENCED"]
    snapshot = await driver.ledger.get(upload_id)
    assert (snapshot.status, snapshot.crc32c) == (UploadStatus.COMPLETED, crc32c(FIRST))
    assert snapshot.sha256 is None


@pytest.mark.rule(18)
async def test_concurrent_ends_leave_a_consistent_state(driver: Driver) -> None:
    for order in permutations(["finish", "fail", "reopen", "abort"]):
        upload_id = await stored_upload(driver)
        claim = await driver.claim_completion(upload_id)
        calls = {
            "finish": driver.ledger.finish(claim, crc32c(FIRST), None),
            "fail": driver.ledger.fail(upload_id, "TEST", "failed", claim.fence),
            "reopen": driver.ledger.reopen_part(claim, 1),
            "abort": driver.ledger.abort(upload_id),
        }
        with noting_order(order):
            answers = await at_once(*(calls[name] for name in order))
            pairs = zip(order, answers, strict=True)
            await assert_one_truth(
                driver, upload_id, {n for n, answer in pairs if not isinstance(answer, SluiceError)}
            )


async def assert_one_truth(driver: Driver, upload_id: str, done: set[str]) -> None:
    """Check that results, state and events agree."""
    status, events = await end_of(driver, upload_id)
    match status:
        case UploadStatus.COMPLETED:
            assert done == {"finish"}
            assert events == ["UploadInitiated"]
        case UploadStatus.FAILED:
            assert "finish" not in done
            assert events == ["UploadInitiated", "UploadFailed"]
        case UploadStatus.ABORTED:
            assert done == {"reopen", "abort"}
            assert events == ["UploadInitiated", "UploadAborted"]
        case _:
            assert (status, done) == (UploadStatus.UPLOADING, {"reopen"})
            await driver.send(upload_id, 0, FIRST)  # ends as if nothing had been
            await driver.complete(upload_id)
            assert (await driver.finish(upload_id)).crc32c == crc32c(FIRST)


@pytest.mark.rule(18)
async def test_late_completer_changes_nothing_at_any_step(driver: Driver) -> None:
    """Two completers claim, extend and finish; the lease ends between any two steps."""
    for order in orders(3, 3):
        upload_id = await stored_upload(driver)
        finished: list[str] = []

        async def completer(
            name: str, upload_id: str = upload_id, finished: list[str] = finished
        ) -> Actor:
            driver.clock.advance(LEASE_SECONDS)
            claim = await driver.ledger.claim_completion(upload_id, name, LEASE_SECONDS)
            yield
            if claim is not None:
                await outcome(driver.ledger.extend_claim(claim, LEASE_SECONDS))
            yield
            if claim is not None:
                ended = await outcome(driver.ledger.finish(claim, crc32c(FIRST), None))
                finished += [name] if isinstance(ended, UploadSnapshot) else []

        with noting_order(order):
            await play(order, completer("one"), completer("two"))
            assert len(finished) == 1
            assert (await end_of(driver, upload_id))[0] is UploadStatus.COMPLETED


@pytest.mark.rule(18, 27)
async def test_watcher_sees_one_end_after_any_race(driver: Driver) -> None:
    upload_id = await stored_upload(driver)
    claim = await driver.claim_completion(upload_id)
    watching = [asyncio.create_task(collected(driver, upload_id)) for _ in range(3)]
    await at_once(
        driver.ledger.finish(claim, crc32c(FIRST), None),
        driver.ledger.abort(upload_id),
        driver.ledger.fail(upload_id, "TEST", "failed", claim.fence),
    )
    async with asyncio.timeout(10):
        ends = [(await watch)[-1] for watch in watching]
    status = await driver.status(upload_id)
    assert {end.status for end in ends} == {status}
    assert status in (UploadStatus.COMPLETED, UploadStatus.FAILED)


async def collected(driver: Driver, upload_id: str) -> list[UploadSnapshot]:
    return [snapshot async for snapshot in driver.ledger.watch(upload_id, 0)]
