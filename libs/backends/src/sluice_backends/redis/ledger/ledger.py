"""Ledger on Redis, for any number of intakes and workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

from awscrt.checksums import combine_crc32c

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.ledger.announcements import Announcements, KnownState
from sluice_backends.redis.ledger.coalesced_reads import CoalescedReads
from sluice_backends.redis.ledger.creation import UploadCreation
from sluice_backends.redis.ledger.inspection import LedgerInspection
from sluice_backends.redis.ledger.listing import UploadList
from sluice_backends.redis.ledger.replies import SnapshotReader
from sluice_backends.redis.ledger.steps import LedgerSteps
from sluice_backends.redis.ledger.sweep import LedgerSweep
from sluice_backends.redis.monitoring import RedisMonitor
from sluice_backends.redis.options import RedisOptions
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.ledger import refusals
from sluice_core.ledger.fences import number_of
from sluice_core.ledger.lifecycle import decode_cursor
from sluice_core.ledger.options import Clock, LedgerOptions
from sluice_core.ports import (
    Acceptance,
    Admission,
    Backlog,
    ChunkOffer,
    Completion,
    CompletionClaim,
    Fence,
    LedgerEvent,
    PartClaim,
    StoredPartRecord,
    UploadPage,
    Verdict,
    WorkItem,
)
from sluice_core.ports.inspection import InspectedPart, InspectedUpload, WorkLeft
from sluice_core.uploads.model import (
    ChunkRange,
    ChunkRef,
    MissingChunks,
    NewUpload,
    PartPlan,
    UploadOwner,
    UploadSnapshot,
    UploadStatus,
)
from sluice_core.uploads.states import is_terminal

_ASK_AGAIN_SECONDS = 1.0
_POLL_SECONDS = 5.0
_SUBSCRIBE_SECONDS = 0.05
_X_TO_THE_0 = 0x80000000
"""The polynomial 1 as a reflected CRC."""

_INVALID_COUNTER = -1


@asynccontextmanager
async def open_redis_ledger(
    clients: RedisClients,
    options: LedgerOptions,
    redis: RedisOptions,
    monitor: RedisMonitor,
    *,
    replicated: bool = False,
    clock: Clock | None = None,
) -> AsyncIterator[RedisLedger]:
    """Yield a ledger on an open connection.

    Args:
        monitor: provides the ledger's identity (rule 28) and the server's memory state.
        replicated: acknowledge an accepted chunk once `replicas_to_wait` have it (rule 6).
        clock: for tests that control the time; by default the server's time.
    """
    steps = LedgerSteps(clients, options, redis, clock)
    announcements = Announcements(clients)
    async with announcements.listening():
        yield RedisLedger(
            steps,
            SnapshotReader(clients, options),
            announcements,
            options,
            monitor,
            replicated=replicated,
        )


# Size: one method for each of the port's: pack, run the script, unpack.
class RedisLedger:
    """`UploadLedger` on Redis; opened with `open_redis_ledger`.

    Every step is one Lua script on the keys of one upload (`lua/steps/`), by the same rules as
    every other ledger (`sluice_core.ledger`). ADR 0009 describes the layout of the keys and the
    possible crash states.
    """

    def __init__(
        self,
        steps: LedgerSteps,
        reader: SnapshotReader,
        announcements: Announcements,
        options: LedgerOptions,
        monitor: RedisMonitor,
        *,
        replicated: bool,
    ) -> None:
        self._steps = steps
        self._reader = reader
        self._announcements = announcements
        self._whole_admissions: dict[str, float] = {}
        """Time of admission of chunks that hold room for their whole size, by token."""
        self._options = options
        self._monitor = monitor
        self._replicated = replicated
        self._reads = CoalescedReads(self.get)
        self._creation = UploadCreation(steps, reader, options)
        self._list = UploadList(steps, reader)
        self._inspection = LedgerInspection(steps, reader)
        self._sweep = LedgerSweep(steps, reader, options, self._catch_up)

    @property
    def nonce(self) -> str:
        return self._monitor.nonce

    async def ping(self) -> None:
        # A no-op write: a replica, or a server that cannot persist, refuses it.
        await self._steps.clients.execute(keys.NONCE, "PERSIST", keys.NONCE)

    # -- the client's side

    async def create(self, new: NewUpload) -> UploadSnapshot:
        return await self._creation.create(new, no_room=self._monitor.memory_is_high)

    async def admit_chunk(self, offer: ChunkOffer) -> Admission:
        memory_is_high = self._monitor.memory_is_high
        answer, needed, *room = await self._steps.run(
            "admit_chunk",
            offer.upload_id,
            *_offer_arguments(offer),
            offer.hold_bytes,
            "1" if memory_is_high else "",
        )
        if not self._steps.is_single_server:
            answer, *room = await self._steps.budget.admit(
                offer, answer, memory_is_high=memory_is_high
            )
        held, pressed, known = room
        if answer:
            return Admission(False, answer.decode(), needed, held)
        if not self._steps.is_single_server and held >= offer.size:
            self._whole_admissions[offer.token] = self._steps.seconds()
        return Admission(granted=True, held_bytes=held, pressed=bool(pressed), known=bool(known))

    async def wait_for_room(self, upload_id: str, timeout_seconds: float) -> None:
        with self._announcements.room(upload_id) as woken:
            loop = asyncio.get_running_loop()
            until = loop.time() + min(timeout_seconds, _ASK_AGAIN_SECONDS)
            # Announcements may be stale: in a cluster they travel between servers.
            while await self._waits_for_room(upload_id) and loop.time() < until:
                await wait_at_most(woken, until - loop.time())
                woken.clear()

    async def _waits_for_room(self, upload_id: str) -> bool:
        """Return True if nothing has changed since the upload was refused room."""
        (waits,) = await self._steps.run("waits_for_room", upload_id)
        return (
            bool(waits)
            if self._steps.is_single_server
            else await self._steps.budget.waits(upload_id)
        )

    async def release_chunk(self, offer: ChunkOffer) -> None:
        self._whole_admissions.pop(offer.token, None)
        await self._steps.budget.release(offer.token)

    async def accept_chunk(self, offer: ChunkOffer, crc32c: int) -> Acceptance:
        upload_id = offer.upload_id
        if not self._steps.is_single_server:
            await self._check_room(offer)
        verdict, fields, token, ready, drop, completion_ready, behind = await self._steps.run(
            "accept_chunk",
            upload_id,
            *_offer_arguments(offer),
            crc32c,
            _crc_shift(max(offer.size, 0)),
            "1" if self._replicated else "",
            more_keys=(keys.staging(upload_id, offer.token), keys.chunk(upload_id, offer.number)),
            wait=self._replicated,
        )
        if offer.is_last:
            # Its client requests the completion next, mostly at this process, and waits for it.
            self._announcements.subscribe_early(upload_id)
        if behind:
            caught_up = await self._catch_up(upload_id)
            snapshot = caught_up.snapshot
            ready += caught_up.ready_parts
            completion_ready = caught_up.completion_ready
        else:
            snapshot = await self._reader.snapshot(upload_id, fields)
        return Acceptance(
            Verdict(verdict.decode()),
            ChunkRef(offer.number, offer.size, crc32c, token.decode()),
            snapshot,
            tuple(ready),
            tuple(each.decode() for each in drop),
            bool(completion_ready),
        )

    async def _check_room(self, offer: ChunkOffer) -> None:
        """Admit a chunk again whose reservation may have expired (rule 9).

        In a cluster the accept step cannot access the budget.
        """
        admitted_at = self._whole_admissions.pop(offer.token, None)
        age = None if admitted_at is None else self._steps.seconds() - admitted_at
        if age is None or age > self._options.reservation_seconds / 2:
            admission = await self.admit_chunk(replace(offer, hold_bytes=None))
            self._whole_admissions.pop(offer.token, None)
            if not admission.granted:
                await self.release_chunk(offer)
                raise refusals.no_room_for_chunk(offer.number, admission.needed_number)

    async def request_completion(
        self,
        upload_id: str,
        total_chunks: int | None,
        sha256: bytes | None,
        crc32c: int | None,
    ) -> Completion:
        state = self._announcements.known_state(upload_id)
        answer = await self._steps.run(
            "request_completion", upload_id, total_chunks, sha256.hex() if sha256 else None, crc32c
        )
        completion = await self._completion(upload_id, answer)
        _update(state, completion.snapshot)
        return completion

    async def abort(self, upload_id: str) -> UploadSnapshot:
        return await self._snapshot_after("abort", upload_id)

    async def owner_of(self, upload_id: str, *, caller: str | None = None) -> UploadOwner:
        owner = self._reader.owner_of(upload_id)
        if owner is None or caller not in (None, owner.tenant):
            owner = await self._reader.read_owner(upload_id)
        return owner

    async def get(self, upload_id: str) -> UploadSnapshot:
        state = self._announcements.known_state(upload_id)
        snapshot = await self._snapshot_after("get", upload_id)
        _update(state, snapshot)
        return snapshot

    async def missing_chunks(self, upload_id: str, limit: int) -> MissingChunks:
        gaps, truncated = await self._steps.run("missing_chunks", upload_id, limit)
        pairs = zip(gaps[::2], gaps[1::2], strict=True)
        return MissingChunks(tuple(ChunkRange(*pair) for pair in pairs), bool(truncated))

    async def watch(
        self, upload_id: str, after_sequence: int, *, only_end: bool = False
    ) -> AsyncIterator[UploadSnapshot]:
        seen = after_sequence
        with self._announcements.changes(upload_id) as changed:
            if self._announcements.known_state(upload_id) is None:
                # The event is set once the subscription is active. An earlier read would have to
                # be repeated.
                await wait_at_most(changed, _SUBSCRIBE_SECONDS)
            poll = False
            while True:
                changed.clear()  # before the read: a later change sets it again
                state = self._announcements.known_state(upload_id)
                if poll or state is None or not state.is_up_to_date(seen, only_end=only_end):
                    snapshot = await self._reads.get(upload_id)
                    ended = is_terminal(snapshot.status)
                    if snapshot.sequence > seen:
                        seen = snapshot.sequence
                        if ended or not only_end:
                            yield snapshot
                    if ended:
                        return
                poll = not await wait_at_most(changed, _POLL_SECONDS)

    async def list_uploads(
        self, tenant: str, statuses: frozenset[UploadStatus], limit: int, after: str
    ) -> UploadPage:
        return await self._list.newest(
            tenant, statuses, limit, decode_cursor(after) if after else None
        )

    # -- the workers' side

    async def claim_part(
        self, upload_id: str, number: int, holder: str, lease_seconds: float
    ) -> PartClaim | None:
        nonce = self.nonce
        answer = await self._steps.run("claim_part", upload_id, number, holder, lease_seconds)
        if not answer:
            return None
        fields, counter, first, last, size, single_put, now = answer
        return PartClaim(
            await self._reader.snapshot(upload_id, fields),
            PartPlan(number, first, last),
            size,
            Fence(nonce, counter),
            bool(single_put),
            float(now),
        )

    async def claim_completion(
        self, upload_id: str, holder: str, lease_seconds: float
    ) -> CompletionClaim | None:
        nonce = self.nonce
        answer = await self._steps.run("claim_completion", upload_id, holder, lease_seconds)
        if not answer:
            return None
        fields, counter, part_count, single_put = answer
        return CompletionClaim(
            await self._reader.snapshot(upload_id, fields),
            Fence(nonce, counter),
            part_count,
            bool(single_put),
        )

    async def extend_claim(self, claim: PartClaim | CompletionClaim, lease_seconds: float) -> None:
        await self._steps.run(
            "extend_claim", claim.snapshot.upload_id, *self._fenced(claim), lease_seconds
        )

    async def release_claim(self, claim: PartClaim | CompletionClaim) -> None:
        await self._steps.run("release_claim", claim.snapshot.upload_id, *self._fenced(claim))

    async def part_chunks(
        self, upload_id: str, plan: PartPlan, after_number: int, limit: int
    ) -> Sequence[ChunkRef]:
        first = max(plan.first_chunk, after_number + 1)
        (fields,) = await self._steps.run("part_chunks", upload_id, first, plan.last_chunk, limit)
        return [
            ChunkRef(number, size, crc32c, token.decode())
            for number, size, crc32c, token in zip(*[iter(fields)] * 4, strict=True)
        ]

    async def set_multipart(self, claim: PartClaim, multipart_id: str) -> str:
        (first,) = await self._steps.run(
            "set_multipart", claim.snapshot.upload_id, *self._fenced(claim), multipart_id
        )
        return str(first.decode())

    async def record_part(self, claim: PartClaim, part: StoredPartRecord) -> Completion:
        upload_id = claim.snapshot.upload_id
        fields, completion_ready = await self._steps.run(
            "record_part",
            upload_id,
            *self._fenced(claim),
            part.number,
            part.etag,
            part.size,
            part.crc32c,
            part.sha256.hex() if part.sha256 else None,
        )
        snapshot = await self._reader.snapshot(upload_id, fields)
        return Completion(snapshot, (), bool(completion_ready))

    async def reject_chunk(self, claim: PartClaim, number: int) -> UploadSnapshot:
        upload_id = claim.snapshot.upload_id
        return await self._snapshot_after("reject_chunk", upload_id, *self._fenced(claim), number)

    async def reopen_part(self, claim: CompletionClaim, number: int) -> None:
        _, counter = self._fenced(claim)
        await self._steps.run("reopen_part", claim.snapshot.upload_id, counter, number)

    async def stored_parts(
        self, upload_id: str, after_number: int, limit: int
    ) -> Sequence[StoredPartRecord]:
        (fields,) = await self._steps.run("stored_parts", upload_id, after_number, limit)
        return [
            StoredPartRecord(
                number, etag.decode(), size, crc32c, bytes.fromhex(sha256.decode()) or None
            )
            for number, etag, size, crc32c, sha256 in zip(*[iter(fields)] * 5, strict=True)
        ]

    async def finish(
        self, claim: CompletionClaim, crc32c: int, sha256: bytes | None
    ) -> UploadSnapshot:
        _, counter = self._fenced(claim)
        digest = sha256.hex() if sha256 else None
        return await self._snapshot_after(
            "finish", claim.snapshot.upload_id, counter, crc32c, digest
        )

    async def fail(
        self, upload_id: str, reason: str, detail: str, fence: Fence | None = None
    ) -> UploadSnapshot:
        counter = None if fence is None else self._counter(fence)
        return await self._snapshot_after("fail", upload_id, reason, detail, counter)

    # -- the sweeper's and the relay's side

    async def ready_work(self, limit: int, offset: int = 0) -> Sequence[WorkItem]:
        return (await self._sweep.ready_work(offset + limit))[offset:]

    async def expire_due(self, limit: int) -> Sequence[UploadSnapshot]:
        return await self._sweep.expire_due(limit)

    async def cleanups_due(self, limit: int, offset: int = 0) -> Sequence[UploadSnapshot]:
        return await self._sweep.cleanups_due(limit, offset)

    async def cleanup_done(self, upload_id: str) -> None:
        await self._steps.run("cleanup_done", upload_id)

    async def purge_due(self, limit: int) -> int:
        return await self._sweep.purge_due(limit)

    async def known_tokens(self, upload_id: str, tokens: Sequence[str]) -> frozenset[str]:
        return await self._sweep.known_tokens(upload_id, tokens)

    async def pending_events(self, limit: int) -> Sequence[LedgerEvent]:
        return await self._sweep.pending_events(limit)

    async def upload_events(self, upload_id: str) -> Sequence[LedgerEvent]:
        return await self._sweep.upload_events(upload_id)

    async def events_published(self, upload_id: str, up_to_sequence: int) -> None:
        await self._steps.run("events_published", upload_id, up_to_sequence)

    async def withhold_events(self, upload_id: str, seconds: float) -> None:
        await self._steps.run("withhold_events", upload_id, seconds)

    async def backlog(self) -> Backlog:
        queued, reserved = await self._steps.budget.backlog()
        return Backlog(queued, reserved, self._options.budget_bytes, await self._sweep.count_open())

    # -- the operators' side

    async def inspect(self, upload_id: str) -> InspectedUpload:
        return await self._inspection.inspect(upload_id)

    async def inspect_parts(
        self, upload_id: str, after_number: int, limit: int
    ) -> Sequence[InspectedPart]:
        return await self._inspection.inspect_parts(upload_id, after_number, limit)

    async def work_left(self) -> WorkLeft:
        return await self._inspection.work_left()

    # -- shared

    async def _snapshot_after(self, step: str, upload_id: str, *arguments: Any) -> UploadSnapshot:
        (fields,) = await self._steps.run(step, upload_id, *arguments)
        return await self._reader.snapshot(upload_id, fields)

    async def _completion(self, upload_id: str, answer: list[Any]) -> Completion:
        fields, ready, completion_ready, behind = answer
        if behind:
            caught_up = await self._catch_up(upload_id)
            return Completion(
                caught_up.snapshot, (*ready, *caught_up.ready_parts), caught_up.completion_ready
            )
        snapshot = await self._reader.snapshot(upload_id, fields)
        return Completion(snapshot, tuple(ready), bool(completion_ready))

    async def _catch_up(self, upload_id: str) -> Completion:
        """Run bounded, independent steps until none is left."""
        ready: list[int] = []
        while True:
            fields, more, completion_ready, behind = await self._steps.run("advance", upload_id)
            ready += more
            if not behind:
                snapshot = await self._reader.snapshot(upload_id, fields)
                return Completion(snapshot, tuple(ready), bool(completion_ready))

    def _fenced(self, claim: PartClaim | CompletionClaim) -> tuple[int, int]:
        """Return the key and the counter of a claim's hold."""
        return number_of(claim), self._counter(claim.fence)

    def _counter(self, fence: Fence) -> int:
        # A fence of another ledger is invalid here, whatever its counter.
        return fence.counter if fence.nonce == self.nonce else _INVALID_COUNTER


def _update(state: KnownState | None, snapshot: UploadSnapshot) -> None:
    """Record a snapshot of a step that started after the subscription, like an announcement."""
    if state is not None:
        state.update(snapshot.sequence, ended=is_terminal(snapshot.status))


def _offer_arguments(offer: ChunkOffer) -> tuple[int, int, str, str, str]:
    """Return an offer as arguments of the scripts."""
    flags = ("1" if offer.is_last else "", "1" if offer.force else "")
    return (offer.number, offer.size, *flags, offer.token)


@lru_cache(maxsize=4096)
def _crc_shift(size: int) -> int:
    """Return the CRC32C factor of `size` following bytes: x^(8·size) (lua/fragments/crc.lua)."""
    return int(combine_crc32c(_X_TO_THE_0, 0, size))
