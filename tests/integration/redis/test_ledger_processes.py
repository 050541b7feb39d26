"""Several ledgers on one Redis, as in several processes.

`together` holds the server until all calls have arrived there, so that they really meet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest

from sluice_core.access.actions import Action
from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import NotFound, SluiceError
from sluice_core.ports import Acceptance, Admission, UploadLedger, Verdict
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import PartPlan, UploadSnapshot, UploadStatus
from sluice_core.uploads.states import is_terminal
from sluice_intake.drives import DefaultDrives
from sluice_intake.lookup import UploadGuard
from support.ledger_processes import Processes
from support.ledgers import LEASE_SECONDS, PART_BYTES, ROOMY, Driver

T = TypeVar("T")

CHUNK = 8


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


@pytest.mark.parametrize("step", ["check", "find"])
async def test_foreign_upload_is_read_like_an_unknown_one(processes: Processes, step: str) -> None:
    """Whatever this process has cached: the time of the answer must not reveal the upload."""
    here, there = await processes.start(2)
    driver = Driver(here, processes.clock)
    upload_id = await driver.create()
    stranger = Principal("other", "ann", frozenset({Scope.TENANT_ADMIN}))
    for ledger in (here, there, there):  # cached, never read, read before
        guard = UploadGuard(ledger, DefaultDrives())
        for each in (upload_id, driver.new().upload_id):
            before = {name: ledger.calls(name) for name in ("hget", "ledger_get")}
            with pytest.raises(NotFound) as refused:
                await getattr(guard, step)(stranger, Action.GET_UPLOAD_STATUS, each)
            assert refused.value.reason == "UPLOAD_NOT_FOUND"
            reads = {name: ledger.calls(name) - count for name, count in before.items()}
            assert reads == {"hget": 1, "ledger_get": 0}


async def _one_end(ledger: UploadLedger, upload_id: str, ended: list[UploadSnapshot]) -> None:
    assert len({snapshot.status for snapshot in ended}) == 1
    events = [event.type for event in await ledger.upload_events(upload_id)]
    ends = {"UploadAborted", "UploadFailed", "UploadExpired"}
    completed = ended[0].status is UploadStatus.COMPLETED
    assert len([event for event in events if event in ends]) == (0 if completed else 1)


def _plan(chunk: int) -> PartPlan:
    return PartPlan(1, chunk, chunk)
