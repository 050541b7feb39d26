"""Differential test of the Lua and the Python ledger over random histories.

The contract suite specifies a ledger; this shows that the Redis ledger does nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sluice_backends.memory.ledger import MemoryLedger
from sluice_core.errors import SluiceError
from sluice_core.ports import (
    ChunkOffer,
    CompletionClaim,
    Fence,
    PartClaim,
    StoredPartRecord,
    UploadLedger,
    WorkKind,
)
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import NewUpload, UploadStatus
from support.ledgers import DAY, HOUR, LEASE_SECONDS, ROOMY, Driver, FakeClock
from support.redis_ledgers import redis

HISTORIES = 8
STEPS = 160
QUERY_EVERY = 4
CHUNK = 4
OPTIONS = replace(
    ROOMY, budget_bytes=90, tenant_budget_bytes=70, upload_budget_bytes=50, max_chunk_bytes=6
)
ANY = frozenset[UploadStatus]()

Call = Callable[[UploadLedger], Awaitable[Any]]
Claim = PartClaim | CompletionClaim


@dataclass
class Twins:
    """Two ledgers that get the same calls."""

    rules: UploadLedger
    scripts: UploadLedger
    clock: FakeClock
    random: random.Random
    uploads: list[NewUpload] = field(default_factory=list)
    claims: list[tuple[Claim, Claim]] = field(default_factory=list)

    async def same(self, what: str, call: Call) -> Any:
        """Run a call on both ledgers; assert equal answers and return one."""
        return await self.same_of_each(what, call, call)

    async def same_of_each(self, what: str, rules: Call, scripts: Call) -> Any:
        expected = await _outcome(rules(self.rules))
        answer = await _outcome(scripts(self.scripts))
        assert _plain(answer) == _plain(expected), what
        return expected, answer

    def upload(self) -> str:
        return self.random.choice(self.uploads).upload_id

    # -- operations

    async def create(self) -> None:
        if len(self.uploads) >= 5:
            return
        uniform, declared = self.random.random() < 0.5, self.random.random() < 0.4
        new = Driver(self.rules, self.clock).new(
            chunk_size=CHUNK if uniform else None,
            expected_size=self.random.randrange(30) if declared else None,
            tenant=self.random.choice(["acme", "other tenant"]),
            part_bytes=8,
            crc32c=7 if self.random.random() < 0.1 else None,
        )
        self.uploads.append(new)
        await self.same("create", lambda ledger: ledger.create(new))

    async def chunk(self) -> None:
        number = self.random.choice([0, 1, 2, 3, self.random.randrange(10), -1])
        size = self.random.choice([CHUNK] * 6 + [0, 1, 3, 5, 6, 7])
        content = bytes([self.random.randrange(2)]) * size
        offer = Driver(self.rules, self.clock).offer(
            self.upload(),
            number,
            size,
            is_last=self.random.random() < 0.1,
            force=self.random.random() < 0.2,
        )
        offer = replace(offer, token=f"token-{self.random.getrandbits(60)}")
        admitted = await self.admit(offer)
        if self.random.random() < 0.05:
            await self.same("release", lambda ledger: ledger.release_chunk(offer))
        elif getattr(admitted, "granted", self.random.random() < 0.3):
            await self.same("accept", lambda ledger: ledger.accept_chunk(offer, crc32c(content)))

    async def next_chunk(self) -> None:
        """Send the next chunk, as a client mostly does."""
        upload_id = self.upload()
        snapshot, _ = await self.same("get", lambda ledger: ledger.get(upload_id))
        number = getattr(snapshot, "needed_number", 0)
        offer = replace(
            Driver(self.rules, self.clock).offer(upload_id, number, CHUNK),
            token=f"token-{self.random.getrandbits(60)}",
        )
        admitted = await self.admit(offer)
        if getattr(admitted, "granted", False):
            await self.same("accept", lambda ledger: ledger.accept_chunk(offer, number))

    async def admit(self, offer: ChunkOffer) -> Any:
        """Admit a chunk, at once or in steps; sometimes only a part of it."""
        steps = [
            self.random.randrange(offer.size + 2) for _ in range(self.random.choice([0, 1, 3]))
        ]
        for hold_bytes in steps if offer.size > 0 else []:
            step = replace(offer, hold_bytes=hold_bytes)
            await self.same("step", lambda ledger, of=step: ledger.admit_chunk(of))  # type: ignore[misc]
        if steps and self.random.random() < 0.3:
            await self.same("backlog", lambda ledger: ledger.backlog())
        if steps and self.random.random() < 0.1:
            return None
        admitted, _ = await self.same("admit", lambda ledger: ledger.admit_chunk(offer))
        return admitted

    async def complete(self) -> None:
        upload_id = self.upload()
        snapshot, _ = await self.same("get", lambda ledger: ledger.get(upload_id))
        total = self.random.choice([None, getattr(snapshot, "highest_number", 0) + 1, 3])
        claim = self.random.choice([None, None, 9])
        await self.same(
            "complete", lambda ledger: ledger.request_completion(upload_id, total, None, claim)
        )

    async def claim_part(self) -> None:
        upload_id, part = self.upload(), self.random.randrange(1, 4)
        holder = self.random.choice(["one", "two"])
        self._keep(
            await self.same(
                "claim", lambda ledger: ledger.claim_part(upload_id, part, holder, LEASE_SECONDS)
            )
        )

    async def claim_completion(self) -> None:
        upload_id = self.upload()
        self._keep(
            await self.same(
                "claim completion",
                lambda ledger: ledger.claim_completion(upload_id, "one", LEASE_SECONDS),
            )
        )

    def _keep(self, claims: Any) -> None:
        if all(isinstance(claim, PartClaim | CompletionClaim) for claim in claims):
            self.claims.append(claims)

    async def use_claim(self) -> None:
        if not self.claims:
            return
        ours, theirs = self.random.choice(self.claims[-6:])
        chosen = self.random.random()
        if isinstance(ours, CompletionClaim):
            part = self.random.randrange(1, 4)
            if chosen < 0.5:
                await self._by_claim("finish", ours, theirs, "finish", 5, None)
            else:
                await self._by_claim("reopen", ours, theirs, "reopen_part", part)
        elif chosen < 0.6:
            plan = ours.plan
            record = StoredPartRecord(plan.number, f"etag-{ours.fence.counter}", ours.size, 11)
            await self._by_claim("record", ours, theirs, "record_part", record)
        elif chosen < 0.8:
            number = self.random.randint(ours.plan.first_chunk, max(ours.plan.last_chunk, 0))
            await self._by_claim("reject", ours, theirs, "reject_chunk", number)
        elif chosen < 0.9:
            await self._by_claim("multipart", ours, theirs, "set_multipart", f"m-{chosen}")
        else:
            await self._by_claim("release", ours, theirs, "release_claim")

    async def work(self) -> None:
        """Finish all ready work, as workers mostly do."""
        items, _ = await self.same("work", lambda ledger: ledger.ready_work(3))
        for item in items:
            of, part = item.upload_id, item.part_number
            if item.kind is WorkKind.PART:
                ours, theirs = await self.same(
                    "claim",
                    lambda ledger, of=of, part=part: ledger.claim_part(  # type: ignore[misc]
                        of, part, "steady", LEASE_SECONDS
                    ),
                )
                record = StoredPartRecord(part, "etag", ours.size, 11)
                await self._by_claim("record", ours, theirs, "record_part", record)
            else:
                ours, theirs = await self.same(
                    "claim completion",
                    lambda ledger, of=of: ledger.claim_completion(  # type: ignore[misc]
                        of, "steady", LEASE_SECONDS
                    ),
                )
                await self._by_claim("finish", ours, theirs, "finish", 5, b"\x11" * 32)

    async def _by_claim(
        self, what: str, ours: Claim, theirs: Claim, method: str, *arguments: Any
    ) -> None:
        await self.same_of_each(
            what,
            lambda ledger: getattr(ledger, method)(ours, *arguments),
            lambda ledger: getattr(ledger, method)(theirs, *arguments),
        )

    async def end(self) -> None:
        if self.random.random() < 0.15:
            upload_id = self.upload()
            await self.same("abort", lambda ledger: ledger.abort(upload_id))
        elif self.random.random() < 0.15:
            upload_id = self.upload()
            await self.same("fail", lambda ledger: ledger.fail(upload_id, "BROKEN", "it's off"))

    async def time_passes(self) -> None:
        self.clock.advance(self.random.choice([0.5, 5, LEASE_SECONDS, 60, 601, HOUR, DAY]))
        await self.same("expire", _sorted(lambda ledger: ledger.expire_due(100)))

    async def sweep(self) -> None:
        due, _ = await self.same("cleanups", _sorted(lambda ledger: ledger.cleanups_due(100)))
        for snapshot in due:
            upload_id = snapshot.upload_id
            await self.same("cleanup", lambda ledger, of=upload_id: ledger.cleanup_done(of))  # type: ignore[misc]
        upload_id = self.upload()
        await self.same("published", lambda ledger: ledger.events_published(upload_id, 1))
        await self.same("purge", lambda ledger: ledger.purge_due(100))

    async def query(self) -> None:
        """Compare all queries."""
        await self.same("backlog", lambda ledger: ledger.backlog())
        await self.same("work", lambda ledger: ledger.ready_work(100))
        await self.same("events", lambda ledger: ledger.pending_events(100))
        for tenant in ("acme", "other tenant"):
            await self.same("list", lambda ledger, of=tenant: ledger.list_uploads(of, ANY, 2, ""))  # type: ignore[misc]
        for new in self.uploads:
            of = new.upload_id
            for what, call in _queries(of):
                await self.same(f"{what} of {of}", call)
        known = [new for new in self.uploads if await self._is_known(new)]
        self.uploads = known or self.uploads[-1:]

    async def _is_known(self, new: NewUpload) -> bool:
        return not isinstance(await _outcome(self.rules.get(new.upload_id)), SluiceError)


def _queries(upload_id: str) -> list[tuple[str, Call]]:
    return [
        ("get", lambda ledger: ledger.get(upload_id)),
        ("missing", lambda ledger: ledger.missing_chunks(upload_id, 2)),
        ("stored", lambda ledger: ledger.stored_parts(upload_id, 0, 100)),
        ("its events", lambda ledger: ledger.upload_events(upload_id)),
    ]


def _sorted(call: Call) -> Call:
    """Return a call that sorts snapshots without a guaranteed order."""

    async def sorted_call(ledger: UploadLedger) -> Any:
        return sorted(await call(ledger), key=lambda snapshot: snapshot.upload_id)

    return sorted_call


async def _outcome(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except SluiceError as error:
        return error


def _plain(outcome: Any) -> Any:
    """Return an outcome without the ledger's identity."""
    if isinstance(outcome, SluiceError):
        known = (outcome.reason, outcome.message, outcome.field, outcome.retry_after_seconds)
        return (type(outcome), *known, dict(outcome.metadata))
    if isinstance(outcome, PartClaim | CompletionClaim):
        return replace(outcome, fence=Fence("", outcome.fence.counter))
    if isinstance(outcome, tuple | list):
        return list(outcome)
    return outcome


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_lua_and_python_ledgers_agree(seed: int, tmp_path: Path) -> None:
    clock = FakeClock()
    async with redis(tmp_path, OPTIONS, clock) as scripts:
        twins = Twins(MemoryLedger(OPTIONS, clock), scripts, clock, random.Random(seed))
        happenings = [
            *([twins.create] * 2),
            *([twins.chunk] * 8),
            *([twins.next_chunk] * 8),
            *([twins.complete] * 3),
            *([twins.claim_part] * 5),
            *([twins.use_claim] * 6),
            *([twins.claim_completion] * 2),
            *([twins.work] * 3),
            twins.end,
            *([twins.time_passes] * 2),
            twins.sweep,
        ]
        await twins.create()
        for step in range(STEPS):
            await twins.random.choice(happenings)()
            if step % QUERY_EVERY == 0:
                await twins.query()
        await twins.query()
