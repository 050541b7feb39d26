"""The ledger against a dictionary of acknowledged bytes, over arbitrary histories.

Each machine plays clients, workers, completer, sweeper and misfortune (leases that end, workers
that come late, damaged bytes, lost parts, crashes) in any order. After every step the ledger must
agree with the dictionary, and in the end every upload that lives must still become its object.

SLUICE_MODEL_EXAMPLES sets the number of histories (`make test-model` takes many).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sluice_common.coordination.ports import (
    Acceptance,
    CompletionClaim,
    PartClaim,
    StoredPartRecord,
    UploadLedger,
    Verdict,
)
from sluice_common.errors import SluiceError
from sluice_common.uploads.checksums import crc32c
from sluice_common.uploads.model import UploadSnapshot, UploadStatus
from sluice_common.uploads.states import TAKES_CHUNKS, TERMINAL
from support.ledgers import DAY, LEASE_SECONDS, LEDGERS, ROOMY, Driver, FakeClock

T = TypeVar("T")

S = UploadStatus
CHUNK = 4
PART = 8
MOST_CHUNKS = 10
MOST_UPLOADS = 3
OPTIONS = replace(
    ROOMY, budget_bytes=120, tenant_budget_bytes=110, upload_budget_bytes=60, max_chunk_bytes=6
)
EXAMPLES = int(os.environ.get("SLUICE_MODEL_EXAMPLES", "40"))

picks = st.integers(0, 1_000)
numbers = st.integers(0, MOST_CHUNKS - 1)
rarely = st.integers(0, 7).map(lambda drawn: drawn == 7)
"""For what ends a history early: ends are many, and what comes before them is of interest."""


@dataclass
class Truth:
    """One upload as it must be."""

    upload_id: str
    uniform: bool
    chunks: dict[int, bytes] = field(default_factory=dict)
    rejected: dict[int, bytes] = field(default_factory=dict)
    highest: int = -1
    total: int | None = None
    status: UploadStatus = S.PENDING
    stored: dict[int, tuple[range, bytes]] = field(default_factory=dict)
    fixed: set[int] = field(default_factory=set)
    """Chunks whose part was ready once: their content cannot change any more."""
    newest_claims: dict[int, int] = field(default_factory=dict)
    """Part → counter of its last claim: no other may write."""

    @property
    def received_bytes(self) -> int:
        return sum(map(len, self.chunks.values()))

    @property
    def stored_bytes(self) -> int:
        return sum(len(content) for _, content in self.stored.values())

    @property
    def end(self) -> int:
        return self.highest + 1 if self.total is None else self.total

    @property
    def gaps(self) -> list[int]:
        return [number for number in range(self.end) if number not in self.chunks]

    @property
    def content(self) -> bytes:
        return b"".join(self.chunks[number] for number in range(self.end))


@dataclass
class Worker:
    """A claim in somebody's hands, perhaps a stale one, and the bytes read under it."""

    truth: Truth
    claim: PartClaim
    content: bytes
    tokens: list[str]


class LedgerMachine(RuleBasedStateMachine):
    """The histories; subclasses say of which ledger."""

    adapter: ClassVar[str]
    survives_crashes: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.folders: list[Path] = []
        self.truths: list[Truth] = []
        self.workers: list[Worker] = []
        self.late_completions: list[tuple[Truth, CompletionClaim]] = []
        self.bytes: dict[str, bytes] = {}
        """The chunk store: staging token → bytes."""
        self.opened: AbstractAsyncContextManager[UploadLedger]
        self.driver: Driver

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def attempt(self, call: Coroutine[Any, Any, T]) -> T | SluiceError:
        """The answer, or the typed error: a refusal is an answer, too."""
        try:
            return self.run(call)
        except SluiceError as error:
            return error

    @initialize()
    def open(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="sluice-model-"))
        self.folders.append(folder)
        self._open(folder)

    def _open(self, folder: Path) -> None:
        self.opened = LEDGERS[self.adapter](folder, OPTIONS, self.clock)
        self.driver = Driver(self.run(self.opened.__aenter__()), self.clock)

    def teardown(self) -> None:
        try:
            if self.folders:
                self._everything_that_lives_completes()
                self.run(self.opened.__aexit__(None, None, None))
        finally:
            self.runner.close()
            for folder in self.folders:
                shutil.rmtree(folder)

    # -- the client

    @precondition(lambda self: len(self._live()) < MOST_UPLOADS)
    @rule(uniform=st.booleans(), declared=st.none() | st.integers(1, MOST_CHUNKS * CHUNK))
    def create(self, uniform: bool, declared: int | None) -> None:
        new = self.driver.new(
            chunk_size=CHUNK if uniform else None,
            expected_size=declared if uniform else None,
            part_bytes=PART,
        )
        created = self.attempt(self.driver.ledger.create(new))
        if isinstance(created, SluiceError):
            assert created.reason == "BUDGET_FULL"
            return
        truth = Truth(new.upload_id, uniform)
        if uniform and declared:
            truth.total = -(-declared // CHUNK)
        self.truths.append(truth)

    @precondition(lambda self: self.truths)
    @rule(pick=picks, count=st.integers(1, 5), salt=st.binary(min_size=CHUNK, max_size=CHUNK))
    def next_chunks(self, pick: int, count: int, salt: bytes) -> None:
        """What a client does most of the time: send what is missing, in order."""
        truth = self._pick(pick)
        for _ in range(count):
            number = next(iter(truth.gaps), truth.end)
            if number >= MOST_CHUNKS or truth.status not in TAKES_CHUNKS:
                return
            if truth.total is not None and number >= truth.total:
                return
            self._send(truth, number, self._wanted(truth, number, salt))

    @precondition(lambda self: self.truths)
    @rule(
        pick=picks,
        number=numbers,
        content=st.binary(max_size=6) | st.binary(min_size=CHUNK, max_size=CHUNK),
        is_last=rarely,
        force=st.booleans(),
    )
    def any_chunk(self, pick: int, number: int, content: bytes, is_last: bool, force: bool) -> None:
        truth = self._pick(pick)
        before = self._snapshot(truth)
        was = truth.chunks.get(number)
        accepted = self._send(truth, number, content, is_last=is_last, force=force)
        if accepted is None:
            assert self._snapshot(truth) == before, "a refused chunk changed something"
            return
        assert truth.status in TAKES_CHUNKS or was == content
        if was is None:
            assert accepted.verdict is Verdict.NEW
            assert truth.rejected.get(number, content) == content
        elif was == content:
            assert accepted.verdict is Verdict.DUPLICATE
        else:
            assert force
            assert accepted.verdict is Verdict.REPLACED
            assert number not in truth.fixed

    @precondition(lambda self: any(truth.chunks for truth in self.truths))
    @rule(pick=picks, nth=picks)
    def duplicate(self, pick: int, nth: int) -> None:
        truth = self._pick(pick)
        if not truth.chunks:
            return
        number = sorted(truth.chunks)[nth % len(truth.chunks)]
        before = self._snapshot(truth)
        accepted = self._send(truth, number, truth.chunks[number])
        assert accepted is not None
        assert accepted.verdict is Verdict.DUPLICATE
        assert self._snapshot(truth) == before

    @precondition(lambda self: any(t.chunks or t.rejected for t in self.truths))
    @rule(pick=picks, nth=picks)
    def conflicting_duplicate(self, pick: int, nth: int) -> None:
        """Other bytes under a number that was acknowledged once, even if it is missing again."""
        truth = self._pick(pick)
        known = truth.chunks | truth.rejected
        if not known or (truth.rejected and truth.status not in TAKES_CHUNKS):
            return
        number = sorted(known)[nth % len(known)]
        other = bytes(255 - byte for byte in known[number]) or b"?"
        before = self._snapshot(truth)
        offer = self.driver.offer(truth.upload_id, number, len(other))
        refused = self.attempt(self.driver.ledger.accept_chunk(offer, crc32c(other)))
        assert isinstance(refused, SluiceError)
        assert refused.reason == "CHUNK_CONFLICT"
        assert self._snapshot(truth) == before

    @precondition(lambda self: any(truth.chunks for truth in self.truths))
    @rule(pick=picks, nth=picks)
    def replace_a_chunk(self, pick: int, nth: int) -> None:
        """`force`, with content of the same size, which every plan allows."""
        truth = self._pick(pick)
        if not truth.chunks:
            return
        number = sorted(truth.chunks)[nth % len(truth.chunks)]
        other = bytes(255 - byte for byte in truth.chunks[number])
        if other:
            accepted = self._send(truth, number, other, force=True)
            assert accepted is None or number not in truth.fixed

    @precondition(lambda self: self.truths)
    @rule(pick=picks, tell=st.booleans())
    def complete(self, pick: int, tell: bool) -> None:
        self._complete(self._pick(pick), tell=tell)

    def _complete(self, truth: Truth, *, tell: bool) -> None:
        total = truth.end if tell else None
        before = self._snapshot(truth)
        done = self.attempt(self.driver.complete(truth.upload_id, total))
        if isinstance(done, SluiceError):
            assert self._snapshot(truth) == before
            known = tell or truth.total is not None
            assert truth.status in TERMINAL or not known or truth.gaps, done
            return
        assert not truth.gaps
        truth.total = truth.end
        if truth.status in TAKES_CHUNKS:
            truth.status = S.COMPLETING

    @precondition(lambda self: self.truths)
    @rule(pick=picks, really=rarely)
    def abort(self, pick: int, really: bool) -> None:
        truth = self._pick(pick)
        if really and truth.status in TAKES_CHUNKS:
            self.run(self.driver.ledger.abort(truth.upload_id))
            truth.status = S.ABORTED

    # -- workers

    @rule(pick=picks, count=st.integers(1, 3))
    def claim_parts(self, pick: int, count: int) -> None:
        ready = self.run(self.driver.ready())
        for upload_id, part in ready[pick % (len(ready) or 1) :][:count]:
            claim = self.run(self.driver.claim(upload_id, part, f"worker-{len(self.workers)}"))
            self.workers.append(self._worker(claim))

    @precondition(lambda self: self.workers)
    @rule(pick=picks)
    def take_over_a_part(self, pick: int) -> None:
        """A worker's lease ends; another one takes the part, the first will come late."""
        late = self._worker_of(pick)
        self.clock.advance(LEASE_SECONDS)
        upload_id, part = late.truth.upload_id, late.claim.plan.number
        if (upload_id, part) in self.run(self.driver.ready()):
            claim = self.run(self.driver.claim(upload_id, part, f"worker-{len(self.workers)}"))
            assert claim.fence.counter > late.claim.fence.counter
            self.workers.append(self._worker(claim))

    @rule()
    def store_what_is_ready(self) -> None:
        for upload_id, part in self.run(self.driver.ready()):
            self._record(self._worker(self.run(self.driver.claim(upload_id, part, "steady"))))

    @precondition(lambda self: self.workers)
    @rule(pick=picks)
    def record_part(self, pick: int) -> None:
        self._record(self._worker_of(pick))

    @precondition(lambda self: self.workers)
    @rule(pick=picks, nth=picks)
    def reject_chunk(self, pick: int, nth: int) -> None:
        worker = self._worker_of(pick)
        truth, plan = worker.truth, worker.claim.plan
        if plan.last_chunk < plan.first_chunk:
            return
        number = plan.first_chunk + nth % (plan.last_chunk - plan.first_chunk + 1)
        before = self._snapshot(truth)
        rejected = self.attempt(self.driver.ledger.reject_chunk(worker.claim, number))
        if isinstance(rejected, SluiceError):
            assert rejected.reason == "FENCED"
            assert self._snapshot(truth) == before
            return
        assert worker.claim.fence.counter == truth.newest_claims[plan.number]
        self._take_back(truth, number)

    @precondition(lambda self: self.truths)
    @rule(pick=picks, lose=st.booleans())
    def finish(self, pick: int, lose: bool) -> None:
        """A completer; it may find that the object store lost a part (rule 16)."""
        for truth in self._live():
            parts = sorted(truth.stored)
            lost = parts[pick % len(parts)] if lose and parts else None
            self._finish(truth, lost_part=lost)

    def _finish(self, truth: Truth, *, lost_part: int | None) -> None:
        claim = self.run(
            self.driver.ledger.claim_completion(truth.upload_id, "completer", LEASE_SECONDS)
        )
        if claim is None:
            return
        assert truth.status is S.COMPLETING
        assert not truth.gaps
        assert b"".join(truth.stored[part][1] for part in sorted(truth.stored)) == truth.content
        assert claim.part_count == len(truth.stored)
        if lost_part is None:
            self.run(self.driver.ledger.finish(claim, crc32c(truth.content), None))
            truth.status = S.COMPLETED
            return
        self.run(self.driver.ledger.reopen_part(claim, lost_part))
        lost, _ = truth.stored.pop(lost_part)
        for number in lost:
            self._take_back(truth, number)
        if lost:  # the part of an empty object lacks nothing: its completer may go on
            self.late_completions.append((truth, claim))

    @precondition(lambda self: self.late_completions)
    @rule(pick=picks)
    def finish_late(self, pick: int) -> None:
        """A completer that had reopened a part wakes up and wants to finish after all."""
        truth, claim = self.late_completions[pick % len(self.late_completions)]
        if truth not in self.truths:
            return
        before = self._snapshot(truth)
        refused = self.attempt(self.driver.ledger.finish(claim, 0, None))
        assert isinstance(refused, SluiceError)
        assert self._snapshot(truth) == before

    # -- time, the sweeper and misfortune

    @rule()
    def leases_end(self) -> None:
        self.clock.advance(LEASE_SECONDS)

    @rule()
    def reservations_end(self) -> None:
        self.clock.advance(OPTIONS.reservation_seconds)

    @precondition(lambda self: self.truths)
    @rule(really=rarely)
    def expire(self, really: bool) -> None:
        """A day passes, and two sweeps a grace period apart."""
        if not really:
            return
        self.clock.advance(DAY)
        self._expired(self.run(self.driver.ledger.expire_due(100)))
        self.clock.advance(OPTIONS.expiry_grace_seconds)
        self._expired(self.run(self.driver.ledger.expire_due(100)))
        assert not [truth for truth in self.truths if truth.status in TAKES_CHUNKS]

    @precondition(lambda self: self.truths)
    @rule(really=rarely)
    def sight(self, really: bool) -> None:
        """One sweep alone: it ends only what was sighted before and got no chunk since."""
        if not really:
            return
        self.clock.advance(DAY / 2)
        self._expired(self.run(self.driver.ledger.expire_due(100)))

    @rule()
    def sweep(self) -> None:
        """Clean up and forget what ended; nothing that lives may be touched."""
        ledger = self.driver.ledger
        for due in self.run(ledger.cleanups_due(100)):
            assert due.status in TERMINAL
            self.run(ledger.cleanup_done(due.upload_id))
        for event in self.run(ledger.pending_events(100)):
            self.run(ledger.events_published(event.upload_id, event.sequence))
        forgotten = self.run(ledger.purge_due(100))
        left = [truth for truth in self.truths if self._is_known(truth)]
        gone = [truth for truth in self.truths if truth not in left]
        assert len(gone) == forgotten
        assert all(truth.status in TERMINAL for truth in gone)
        self.truths = left
        self.workers = [worker for worker in self.workers if worker.truth in left]

    @precondition(lambda self: self.survives_crashes)
    @rule()
    def crash(self) -> None:
        """The files as they are at this moment, and a new process on them."""
        copy = Path(tempfile.mkdtemp(prefix="sluice-model-"))
        shutil.copytree(self.folders[-1], copy, dirs_exist_ok=True)
        self.run(self.opened.__aexit__(None, None, None))
        self.folders.append(copy)
        client = self.driver
        self._open(copy)
        client.ledger = self.driver.ledger
        self.driver = client

    # -- what must hold at any time

    @invariant()
    def the_ledger_agrees_with_what_was_acknowledged(self) -> None:
        for truth in self.truths:
            snapshot = self._snapshot(truth)
            assert snapshot.status is truth.status
            assert snapshot.total_chunks == truth.total
            assert snapshot.received_chunks == len(truth.chunks)
            assert snapshot.received_bytes == truth.received_bytes
            assert snapshot.highest_number == truth.highest
            assert snapshot.stored_bytes == truth.stored_bytes
            assert snapshot.needed_number == next(iter(truth.gaps), truth.end)
            if not truth.gaps and truth.total is not None:
                assert snapshot.crc32c == crc32c(truth.content)

    @invariant()
    def missing_ranges_are_true(self) -> None:
        for truth in self.truths:
            gaps = self.run(self.driver.missing(truth.upload_id))
            assert [n for first, last in gaps for n in range(first, last + 1)] == truth.gaps

    @invariant()
    def stored_parts_hold_the_acknowledged_bytes(self) -> None:
        for truth in self.truths:
            for chunks, content in truth.stored.values():
                assert b"".join(truth.chunks[number] for number in chunks) == content
            watermark, part = 0, 1
            while part in truth.stored:
                watermark, part = truth.stored[part][0].stop, part + 1
            snapshot = self._snapshot(truth)
            assert (snapshot.stored_watermark, snapshot.stored_parts) == (watermark, part - 1)

    @invariant()
    def the_budget_counts_what_is_queued(self) -> None:
        if not self.folders:
            return
        live = self._live()
        backlog = self.run(self.driver.ledger.backlog())
        assert backlog.queued_bytes == sum(t.received_bytes - t.stored_bytes for t in live)
        assert backlog.open_uploads == len(live)

    # -- helpers

    def _live(self) -> list[Truth]:
        return [truth for truth in self.truths if truth.status not in TERMINAL]

    def _pick(self, pick: int) -> Truth:
        """Mostly one that lives; now and then one that has ended."""
        among = self._live() if pick % 8 else self.truths
        among = among or self.truths
        return among[pick % len(among)]

    def _worker_of(self, pick: int) -> Worker:
        """Mostly a recent claim; the older ones are stale in the same way."""
        return self.workers[-1 - pick % min(len(self.workers), 4)]

    def _snapshot(self, truth: Truth) -> UploadSnapshot:
        return self.run(self.driver.ledger.get(truth.upload_id))

    def _expired(self, ended: Sequence[UploadSnapshot]) -> None:
        for snapshot in ended:
            truth = next(t for t in self.truths if t.upload_id == snapshot.upload_id)
            assert truth.status in TAKES_CHUNKS
            truth.status = S.EXPIRED

    def _is_known(self, truth: Truth) -> bool:
        found = self.attempt(self.driver.ledger.get(truth.upload_id))
        if isinstance(found, SluiceError):
            assert found.reason == "UPLOAD_NOT_FOUND"
            return False
        return True

    def _send(
        self,
        truth: Truth,
        number: int,
        content: bytes,
        *,
        is_last: bool = False,
        force: bool = False,
    ) -> Acceptance | None:
        """One chunk as an intake sends it; None when it was refused."""
        ledger = self.driver.ledger
        offer = self.driver.offer(
            truth.upload_id, number, len(content), is_last=is_last, force=force
        )
        try:
            if not self.run(ledger.admit_chunk(offer)).granted:
                return None
            self.bytes[offer.token] = content
            accepted = self.run(ledger.accept_chunk(offer, crc32c(content)))
        except SluiceError:
            self.run(ledger.release_chunk(offer))
            self.bytes.pop(offer.token, None)
            return None
        for token in accepted.drop_tokens:
            del self.bytes[token]
        if truth.status in TAKES_CHUNKS:
            truth.status = S.UPLOADING
            truth.chunks[number] = content
            truth.rejected.pop(number, None)
            truth.highest = max(truth.highest, number)
            if is_last or (truth.uniform and len(content) < CHUNK):
                truth.total = number + 1
        for part in accepted.ready_parts:
            claimable = self.run(self.driver.ready())
            assert (truth.upload_id, part) in claimable
        return accepted

    def _worker(self, claim: PartClaim) -> Worker:
        """Read the bytes of a part, as the ledger lists its chunks."""
        truth = next(t for t in self.truths if t.upload_id == claim.snapshot.upload_id)
        chunks = self.run(self.driver.chunks_of(claim, page=2))
        content = b"".join(self.bytes[chunk.token] for chunk in chunks)
        numbers_of_part = range(claim.plan.first_chunk, claim.plan.last_chunk + 1)
        assert [chunk.number for chunk in chunks] == list(numbers_of_part)
        assert content == b"".join(truth.chunks[number] for number in numbers_of_part)
        assert claim.size == len(content)
        truth.fixed.update(numbers_of_part)
        truth.newest_claims[claim.plan.number] = claim.fence.counter
        return Worker(truth, claim, content, [chunk.token for chunk in chunks])

    def _record(self, worker: Worker) -> None:
        truth, claim = worker.truth, worker.claim
        part = claim.plan.number
        record = StoredPartRecord(
            part, f"etag-{claim.fence.counter}", len(worker.content), crc32c(worker.content)
        )
        before = self._snapshot(truth)
        recorded = self.attempt(self.driver.ledger.record_part(claim, record))
        if isinstance(recorded, SluiceError):
            assert recorded.reason in ("FENCED", "PART_NOT_READY")
            assert self._snapshot(truth) == before
            return
        if self._snapshot(truth) == before:
            return  # the same record again
        assert claim.fence.counter == truth.newest_claims[part]
        chunks = range(claim.plan.first_chunk, claim.plan.last_chunk + 1)
        truth.stored[part] = (chunks, worker.content)
        for token in worker.tokens:
            self.bytes.pop(token, None)  # rule 17: only now

    def _take_back(self, truth: Truth, number: int) -> None:
        if number in truth.chunks:
            truth.rejected[number] = truth.chunks.pop(number)
            if truth.status is S.COMPLETING:
                truth.status = S.UPLOADING

    def _everything_that_lives_completes(self) -> None:
        """Nothing acknowledged is lost: with the missing chunks every object comes about."""
        self.clock.advance(OPTIONS.reservation_seconds + LEASE_SECONDS)
        live = self._live()
        for _ in range(40 * MOST_CHUNKS * MOST_UPLOADS):
            if all(truth.status is S.COMPLETED for truth in live):
                return
            for truth in live:
                self._move_on(truth)
            for upload_id, part in self.run(self.driver.ready()):
                self._record(self._worker(self.run(self.driver.claim(upload_id, part, "last"))))
            self.clock.advance(1)
        raise AssertionError(f"stuck: {live}")

    def _move_on(self, truth: Truth) -> None:
        if truth.gaps:
            number = truth.gaps[0]
            self._send(truth, number, self._wanted(truth, number, b"last"))
        elif truth.status is not S.COMPLETED:
            self._complete(truth, tell=True)
            self._finish(truth, lost_part=None)

    def _wanted(self, truth: Truth, number: int, salt: bytes) -> bytes:
        """Content that the plan allows; a chunk that was in before comes back as it was."""
        if number in truth.rejected:
            return truth.rejected[number]
        expected = self._snapshot(truth).new.expected_size
        return salt[: min(CHUNK, expected - number * CHUNK)] if expected else salt


class MemoryMachine(LedgerMachine):
    adapter = "memory"
    survives_crashes = False


class SqliteMachine(LedgerMachine):
    adapter = "sqlite"
    survives_crashes = True


PROFILE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

TestMemoryLedger = MemoryMachine.TestCase
TestMemoryLedger.settings = PROFILE
TestSqliteLedger = SqliteMachine.TestCase
TestSqliteLedger.settings = PROFILE
