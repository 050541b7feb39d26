"""Model test of the ledger against a dictionary of acknowledged bytes, over arbitrary histories.
SLUICE_MODEL_EXAMPLES sets the number of histories (`make test-model` takes many).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from sluice_core.errors import SluiceError
from sluice_core.ports import Verdict
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import UploadStatus
from sluice_core.uploads.states import TAKES_CHUNKS, TERMINAL
from support.ledger_history import (
    CHUNK,
    MOST_CHUNKS,
    MOST_UPLOADS,
    OPTIONS,
    PART,
    LedgerHistory,
    Truth,
)
from support.ledgers import DAY, LEASE_SECONDS

pytestmark = pytest.mark.no_cover

EXAMPLES = int(os.environ.get("SLUICE_MODEL_EXAMPLES", "40"))

picks = st.integers(0, 1_000)
numbers = st.integers(0, MOST_CHUNKS - 1)
rarely = st.integers(0, 7).map(lambda drawn: drawn == 7)
"""For what ends a history early: ends are many, and what comes before them is of interest."""


# Size: Hypothesis takes its rules from the methods of one class.
class LedgerMachine(LedgerHistory):
    """State machine of clients, workers, completer, sweeper and faults, in any order.

    Faults are expired leases, late workers, damaged bytes, lost parts and crashes. After every step
    the ledger must agree with the dictionary, and at the end every live upload must still become
    its object.
    """

    # -- the client

    @precondition(lambda self: len(self.live()) < MOST_UPLOADS)
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
        """Send missing chunks in order, as a client mostly does."""
        truth = self.pick_upload(pick)
        for _ in range(count):
            number = next(iter(truth.gaps), truth.end)
            if number >= MOST_CHUNKS or truth.status not in TAKES_CHUNKS:
                return
            if truth.total is not None and number >= truth.total:
                return
            self.send(truth, number, self.wanted(truth, number, salt))

    @precondition(lambda self: self.truths)
    @rule(
        pick=picks,
        number=numbers,
        content=st.binary(max_size=6) | st.binary(min_size=CHUNK, max_size=CHUNK),
        is_last=rarely,
        force=st.booleans(),
    )
    def any_chunk(self, pick: int, number: int, content: bytes, is_last: bool, force: bool) -> None:
        truth = self.pick_upload(pick)
        before = self.snapshot(truth)
        was = truth.chunks.get(number)
        accepted = self.send(truth, number, content, is_last=is_last, force=force)
        if accepted is None:
            assert self.snapshot(truth) == before, "a refused chunk changed something"
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
        truth = self.pick_upload(pick)
        if not truth.chunks:
            return
        number = sorted(truth.chunks)[nth % len(truth.chunks)]
        before = self.snapshot(truth)
        accepted = self.send(truth, number, truth.chunks[number])
        assert accepted is not None
        assert accepted.verdict is Verdict.DUPLICATE
        assert self.snapshot(truth) == before

    @precondition(lambda self: any(t.chunks or t.rejected for t in self.truths))
    @rule(pick=picks, nth=picks)
    def conflicting_duplicate(self, pick: int, nth: int) -> None:
        """Send other bytes under an acknowledged number, even if it is missing again."""
        truth = self.pick_upload(pick)
        known = truth.chunks | truth.rejected
        if not known or (truth.rejected and truth.status not in TAKES_CHUNKS):
            return
        number = sorted(known)[nth % len(known)]
        other = bytes(255 - byte for byte in known[number]) or b"?"
        before = self.snapshot(truth)
        offer = self.driver.offer(truth.upload_id, number, len(other))
        refused = self.attempt(self.driver.ledger.accept_chunk(offer, crc32c(other)))
        assert isinstance(refused, SluiceError)
        assert refused.reason == "CHUNK_CONFLICT"
        assert self.snapshot(truth) == before

    @precondition(lambda self: any(truth.chunks for truth in self.truths))
    @rule(pick=picks, nth=picks)
    def replace_a_chunk(self, pick: int, nth: int) -> None:
        """Replace a chunk with `force` by content of the same size, which every plan allows."""
        truth = self.pick_upload(pick)
        if not truth.chunks:
            return
        number = sorted(truth.chunks)[nth % len(truth.chunks)]
        other = bytes(255 - byte for byte in truth.chunks[number])
        if other:
            accepted = self.send(truth, number, other, force=True)
            assert accepted is None or number not in truth.fixed

    @precondition(lambda self: self.truths)
    @rule(pick=picks, tell=st.booleans())
    def complete(self, pick: int, tell: bool) -> None:
        self.complete_upload(self.pick_upload(pick), tell=tell)

    @precondition(lambda self: self.truths)
    @rule(pick=picks, really=rarely)
    def abort(self, pick: int, really: bool) -> None:
        truth = self.pick_upload(pick)
        if really and truth.status in TAKES_CHUNKS:
            self.run(self.driver.ledger.abort(truth.upload_id))
            truth.status = UploadStatus.ABORTED

    # -- workers

    @rule(pick=picks, count=st.integers(1, 3))
    def claim_parts(self, pick: int, count: int) -> None:
        ready = self.run(self.driver.ready())
        for upload_id, part in ready[pick % (len(ready) or 1) :][:count]:
            claim = self.run(self.driver.claim(upload_id, part, f"worker-{len(self.workers)}"))
            self.workers.append(self.read_part(claim))

    @precondition(lambda self: self.workers)
    @rule(pick=picks)
    def take_over_a_part(self, pick: int) -> None:
        """Expire a worker's lease; another worker takes the part, and the first one is late."""
        late = self.pick_worker(pick)
        self.clock.advance(LEASE_SECONDS)
        upload_id, part = late.truth.upload_id, late.claim.plan.number
        if (upload_id, part) in self.run(self.driver.ready()):
            claim = self.run(self.driver.claim(upload_id, part, f"worker-{len(self.workers)}"))
            assert claim.fence.counter > late.claim.fence.counter
            self.workers.append(self.read_part(claim))

    @rule()
    def store_what_is_ready(self) -> None:
        for upload_id, part in self.run(self.driver.ready()):
            self.record(self.read_part(self.run(self.driver.claim(upload_id, part, "steady"))))

    @precondition(lambda self: self.workers)
    @rule(pick=picks)
    def record_part(self, pick: int) -> None:
        self.record(self.pick_worker(pick))

    @precondition(lambda self: self.workers)
    @rule(pick=picks, nth=picks)
    def reject_chunk(self, pick: int, nth: int) -> None:
        worker = self.pick_worker(pick)
        truth, plan = worker.truth, worker.claim.plan
        if plan.last_chunk < plan.first_chunk:
            return
        number = plan.first_chunk + nth % (plan.last_chunk - plan.first_chunk + 1)
        before = self.snapshot(truth)
        rejected = self.attempt(self.driver.ledger.reject_chunk(worker.claim, number))
        if isinstance(rejected, SluiceError):
            assert rejected.reason == "FENCED"
            assert self.snapshot(truth) == before
            return
        assert worker.claim.fence.counter == truth.newest_claims[plan.number]
        self.take_back(truth, number)

    @precondition(lambda self: self.truths)
    @rule(pick=picks, lose=st.booleans())
    def finish(self, pick: int, lose: bool) -> None:
        """Run a completer, which may find that the object store lost a part (rule 16)."""
        for truth in self.live():
            parts = sorted(truth.stored)
            lost = parts[pick % len(parts)] if lose and parts else None
            self.finish_upload(truth, lost_part=lost)

    @precondition(lambda self: self.late_completions)
    @rule(pick=picks)
    def finish_late(self, pick: int) -> None:
        """Finish with the claim of a completer that has reopened a part."""
        truth, claim = self.late_completions[pick % len(self.late_completions)]
        if truth not in self.truths:
            return
        before = self.snapshot(truth)
        refused = self.attempt(self.driver.ledger.finish(claim, 0, None))
        assert isinstance(refused, SluiceError)
        assert self.snapshot(truth) == before

    # -- time, the sweeper and faults

    @rule()
    def leases_end(self) -> None:
        self.clock.advance(LEASE_SECONDS)

    @rule()
    def reservations_end(self) -> None:
        self.clock.advance(OPTIONS.reservation_seconds)

    @precondition(lambda self: self.truths)
    @rule(really=rarely)
    def expire(self, really: bool) -> None:
        """Advance one day, then sweep twice, a grace period apart."""
        if not really:
            return
        self.clock.advance(DAY)
        self.note_expired(self.run(self.driver.ledger.expire_due(100)))
        self.clock.advance(OPTIONS.expiry_grace_seconds)
        self.note_expired(self.run(self.driver.ledger.expire_due(100)))
        assert not [truth for truth in self.truths if truth.status in TAKES_CHUNKS]

    @precondition(lambda self: self.truths)
    @rule(really=rarely)
    def sight(self, really: bool) -> None:
        """Sweep once: it ends only uploads sighted before that received no chunk since."""
        if not really:
            return
        self.clock.advance(DAY / 2)
        self.note_expired(self.run(self.driver.ledger.expire_due(100)))

    @rule()
    def sweep(self) -> None:
        """Clean up and purge ended uploads; live ones must stay unchanged."""
        ledger = self.driver.ledger
        for due in self.run(ledger.cleanups_due(100)):
            assert due.status in TERMINAL
            self.run(ledger.cleanup_done(due.upload_id))
        for event in self.run(ledger.pending_events(100)):
            self.run(ledger.events_published(event.upload_id, event.sequence))
        purged = self.run(ledger.purge_due(100))
        left = [truth for truth in self.truths if self.is_known(truth)]
        gone = [truth for truth in self.truths if truth not in left]
        assert len(gone) == purged
        assert all(truth.status in TERMINAL for truth in gone)
        self.truths = left
        self.workers = [worker for worker in self.workers if worker.truth in left]

    @precondition(lambda self: self.survives_crashes)
    @rule()
    def crash(self) -> None:
        """Start a new process on a copy of the current files."""
        copy = Path(tempfile.mkdtemp(prefix="sluice-model-"))
        shutil.copytree(self.folders[-1], copy, dirs_exist_ok=True)
        self.run(self.opened.__aexit__(None, None, None))
        self.folders.append(copy)
        client = self.driver
        self.open_ledger(copy)
        client.ledger = self.driver.ledger
        self.driver = client


class MemoryMachine(LedgerMachine):
    adapter = "memory"
    survives_crashes = False


class SqliteMachine(LedgerMachine):
    adapter = "sqlite"
    survives_crashes = True


class RedisMachine(LedgerMachine):
    adapter = "redis"
    survives_crashes = True


class RedisClusterMachine(LedgerMachine):
    adapter = "redis_cluster"
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
TestRedisLedger = RedisMachine.TestCase
TestRedisLedger.settings = PROFILE
TestRedisClusterLedger = RedisClusterMachine.TestCase
TestRedisClusterLedger.settings = settings(PROFILE, max_examples=max(EXAMPLES // 4, 1))
"""Fewer: every step is several round trips there."""
