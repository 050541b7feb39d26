"""Model of a ledger for stateful tests: expected state, operations and invariants."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from sluice_core.errors import SluiceError
from sluice_core.ports import (
    Acceptance,
    CompletionClaim,
    PartClaim,
    StoredPartRecord,
    UploadLedger,
)
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import UploadSnapshot, UploadStatus
from sluice_core.uploads.states import TAKES_CHUNKS, TERMINAL
from support.ledgers import LEASE_SECONDS, LEDGERS, ROOMY, Driver, FakeClock

T = TypeVar("T")

S = UploadStatus
CHUNK = 4
PART = 8
MOST_CHUNKS = 10
MOST_UPLOADS = 3
OPTIONS = replace(
    ROOMY, budget_bytes=120, tenant_budget_bytes=110, upload_budget_bytes=60, max_chunk_bytes=6
)


@dataclass
class Truth:
    """The expected state of one upload."""

    upload_id: str
    uniform: bool
    chunks: dict[int, bytes] = field(default_factory=dict)
    rejected: dict[int, bytes] = field(default_factory=dict)
    highest: int = -1
    total: int | None = None
    status: UploadStatus = S.PENDING
    stored: dict[int, tuple[range, bytes]] = field(default_factory=dict)
    fixed: set[int] = field(default_factory=set)
    """Chunks whose part was ready once: their content must not change."""
    newest_claims: dict[int, int] = field(default_factory=dict)
    """Part → counter of its newest claim, the only one that may write."""

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
    """A worker's claim, possibly stale, and the bytes read under it."""

    truth: Truth
    claim: PartClaim
    content: bytes
    tokens: list[str]


# Size: Hypothesis takes invariants from the methods of one class, and rules share its state.
class LedgerHistory(RuleBasedStateMachine):
    """A ledger, its expected state and its clients; subclasses add the rules."""

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
        """Return the answer or the `SluiceError`."""
        try:
            return self.run(call)
        except SluiceError as error:
            return error

    @initialize()
    def open(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="sluice-model-"))
        self.folders.append(folder)
        self.open_ledger(folder)

    def open_ledger(self, folder: Path) -> None:
        self.opened = LEDGERS[self.adapter](folder, OPTIONS, self.clock)
        self.driver = Driver(self.run(self.opened.__aenter__()), self.clock)

    def teardown(self) -> None:
        try:
            if self.folders:
                self._complete_all_live_uploads()
                self.run(self.opened.__aexit__(None, None, None))
        finally:
            self.runner.close()
            for folder in self.folders:
                shutil.rmtree(folder)

    # -- invariants

    @invariant()
    def the_ledger_agrees_with_what_was_acknowledged(self) -> None:
        for truth in self.truths:
            snapshot = self.snapshot(truth)
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
            snapshot = self.snapshot(truth)
            assert (snapshot.stored_watermark, snapshot.stored_parts) == (watermark, part - 1)

    @invariant()
    def the_budget_counts_what_is_queued(self) -> None:
        if not self.folders:
            return
        live = self.live()
        backlog = self.run(self.driver.ledger.backlog())
        assert backlog.queued_bytes == sum(t.received_bytes - t.stored_bytes for t in live)
        assert backlog.open_uploads == len(live)

    # -- helpers

    def live(self) -> list[Truth]:
        return [truth for truth in self.truths if truth.status not in TERMINAL]

    def pick_upload(self, pick: int) -> Truth:
        """Pick mostly a live upload, sometimes one that has ended."""
        among = self.live() if pick % 8 else self.truths
        among = among or self.truths
        return among[pick % len(among)]

    def pick_worker(self, pick: int) -> Worker:
        """Pick one of the four newest claims; older ones are stale in the same way."""
        return self.workers[-1 - pick % min(len(self.workers), 4)]

    def snapshot(self, truth: Truth) -> UploadSnapshot:
        return self.run(self.driver.ledger.get(truth.upload_id))

    def note_expired(self, ended: Sequence[UploadSnapshot]) -> None:
        for snapshot in ended:
            truth = next(t for t in self.truths if t.upload_id == snapshot.upload_id)
            assert truth.status in TAKES_CHUNKS
            truth.status = S.EXPIRED

    def is_known(self, truth: Truth) -> bool:
        answer = self.attempt(self.driver.ledger.get(truth.upload_id))
        if isinstance(answer, SluiceError):
            assert answer.reason == "UPLOAD_NOT_FOUND"
            return False
        return True

    def send(
        self,
        truth: Truth,
        number: int,
        content: bytes,
        *,
        is_last: bool = False,
        force: bool = False,
    ) -> Acceptance | None:
        """Send one chunk as an intake does, reserving room in steps; None if it was refused."""
        ledger = self.driver.ledger
        offer = self.driver.offer(
            truth.upload_id, number, len(content), is_last=is_last, force=force
        )
        try:
            for hold_bytes in (len(content) // 3, len(content) // 2, None):
                step = replace(offer, hold_bytes=hold_bytes)
                if not self.run(ledger.admit_chunk(step)).granted:
                    self.run(ledger.release_chunk(offer))
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

    def read_part(self, claim: PartClaim) -> Worker:
        """Read the bytes of a part from the chunks that the ledger lists."""
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

    def record(self, worker: Worker) -> None:
        truth, claim = worker.truth, worker.claim
        part = claim.plan.number
        record = StoredPartRecord(
            part, f"etag-{claim.fence.counter}", len(worker.content), crc32c(worker.content)
        )
        before = self.snapshot(truth)
        recorded = self.attempt(self.driver.ledger.record_part(claim, record))
        if isinstance(recorded, SluiceError):
            assert recorded.reason in ("FENCED", "PART_NOT_READY")
            assert self.snapshot(truth) == before
            return
        if self.snapshot(truth) == before:
            return  # a repeated record
        assert claim.fence.counter == truth.newest_claims[part]
        chunks = range(claim.plan.first_chunk, claim.plan.last_chunk + 1)
        truth.stored[part] = (chunks, worker.content)
        for token in worker.tokens:
            self.bytes.pop(token, None)  # only after the part is recorded (rule 17)

    def take_back(self, truth: Truth, number: int) -> None:
        if number in truth.chunks:
            truth.rejected[number] = truth.chunks.pop(number)
            if truth.status is S.COMPLETING:
                truth.status = S.UPLOADING

    def complete_upload(self, truth: Truth, *, tell: bool) -> None:
        total = truth.end if tell else None
        before = self.snapshot(truth)
        done = self.attempt(self.driver.complete(truth.upload_id, total))
        if isinstance(done, SluiceError):
            assert self.snapshot(truth) == before
            known = tell or truth.total is not None
            assert truth.status in TERMINAL or not known or truth.gaps, done
            return
        assert not truth.gaps
        truth.total = truth.end
        if truth.status in TAKES_CHUNKS:
            truth.status = S.COMPLETING

    def finish_upload(self, truth: Truth, *, lost_part: int | None) -> None:
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
            self.take_back(truth, number)
        if lost:  # the part of an empty object has no missing chunk: its completer may finish
            self.late_completions.append((truth, claim))

    def _complete_all_live_uploads(self) -> None:
        """Send the missing chunks and assert that all uploads complete with every byte."""
        self.clock.advance(OPTIONS.reservation_seconds + LEASE_SECONDS)
        live = self.live()
        for _ in range(40 * MOST_CHUNKS * MOST_UPLOADS):
            if all(truth.status is S.COMPLETED for truth in live):
                return
            for truth in live:
                self._move_on(truth)
            for upload_id, part in self.run(self.driver.ready()):
                self.record(self.read_part(self.run(self.driver.claim(upload_id, part, "last"))))
            self.clock.advance(1)
        raise AssertionError(f"stuck: {live}")

    def _move_on(self, truth: Truth) -> None:
        if truth.gaps:
            number = truth.gaps[0]
            self.send(truth, number, self.wanted(truth, number, b"last"))
        elif truth.status is not S.COMPLETED:
            self.complete_upload(truth, tell=True)
            self.finish_upload(truth, lost_part=None)

    def wanted(self, truth: Truth, number: int, salt: bytes) -> bytes:
        """Return content that the plan allows; a rejected chunk is sent again unchanged."""
        if number in truth.rejected:
            return truth.rejected[number]
        expected = self.snapshot(truth).new.expected_size
        return salt[: min(CHUNK, expected - number * CHUNK)] if expected else salt
