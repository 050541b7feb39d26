"""`UploadLedger` over any storage that can run a rule as one atomic step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from sluice_core.concurrency.notifier import Notifier
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.ledger import (
    chunks,
    completion,
    fences,
    inspection,
    lifecycle,
    parts,
    sweep,
)
from sluice_core.ledger.store import Session
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
    WorkItem,
)
from sluice_core.ports.inspection import InspectedPart, InspectedUpload, WorkLeft
from sluice_core.uploads.model import (
    ChunkRef,
    MissingChunks,
    NewUpload,
    PartPlan,
    UploadOwner,
    UploadSnapshot,
    UploadStatus,
)
from sluice_core.uploads.states import is_terminal

P = ParamSpec("P")
T = TypeVar("T")

Rule = Callable[Concatenate[Session, P], T]

_ASK_AGAIN_SECONDS = 1.0
"""Longest delay before a refused chunk requests room again: elections lapse by time, and only
uploads that keep requesting are elected."""

_POLL_SECONDS = 5.0
"""A watcher polls after this time without a notification."""

_BEHIND_LIMIT = 100


# Size: one method for each of the port's, each a line or two.
class TransactionalLedger(ABC):
    """`UploadLedger` whose methods are each one atomic step of `_run`.

    An adapter implements `_run`; everything else, including the rules, is shared, so that the
    memory and the embedded ledger cannot diverge.

    Long runs of chunks are processed in several steps (rule 12). Between two steps readers see a
    consistent state, and after a crash the sweeper's `ready_work` resumes the remaining steps.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changes = Notifier()
        self._room = Notifier()
        self._generation = session.budget.generation

    @abstractmethod
    async def _run(self, rule: Rule[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the rule as one atomic step, then `_announce` the uploads that it touched."""

    def _announce(self, touched: Iterable[str]) -> None:
        if self._changes:
            self._changes.notify(touched)
        if self._room:
            if self._generation != self._session.budget.generation:
                self._room.notify_all()
            else:
                self._room.notify(touched)
        self._generation = self._session.budget.generation

    @property
    def nonce(self) -> str:
        return self._session.nonce

    async def ping(self) -> None:
        await self._run(sweep.ping)

    # -- the client's side

    async def create(self, new: NewUpload) -> UploadSnapshot:
        return await self._run(lifecycle.create, new)

    async def admit_chunk(self, offer: ChunkOffer) -> Admission:
        return await self._run(chunks.admit_chunk, offer)

    async def wait_for_room(self, upload_id: str, timeout_seconds: float) -> None:
        with self._room.listen(upload_id) as woken:
            await self._run(Session.require, upload_id)
            if self._session.budget.is_waiting(upload_id):
                await wait_at_most(woken, min(timeout_seconds, _ASK_AGAIN_SECONDS))

    async def release_chunk(self, offer: ChunkOffer) -> None:
        await self._run(chunks.release_chunk, offer)

    async def accept_chunk(self, offer: ChunkOffer, crc32c: int) -> Acceptance:
        acceptance, behind = await self._run(chunks.accept_chunk, offer, crc32c)
        if not behind:
            return acceptance
        caught_up = await self._catch_up(offer.upload_id)
        return Acceptance(
            acceptance.verdict,
            acceptance.chunk,
            caught_up.snapshot,
            (*acceptance.ready_parts, *caught_up.ready_parts),
            acceptance.drop_tokens,
            caught_up.completion_ready,
        )

    async def request_completion(
        self,
        upload_id: str,
        total_chunks: int | None,
        sha256: bytes | None,
        crc32c: int | None,
    ) -> Completion:
        done, behind = await self._run(
            completion.request_completion, upload_id, total_chunks, sha256, crc32c
        )
        if not behind:
            return done
        caught_up = await self._catch_up(upload_id)
        return Completion(
            caught_up.snapshot,
            (*done.ready_parts, *caught_up.ready_parts),
            caught_up.completion_ready,
        )

    async def abort(self, upload_id: str) -> UploadSnapshot:
        return await self._run(lifecycle.abort, upload_id)

    async def owner_of(self, upload_id: str, *, caller: str | None = None) -> UploadOwner:
        return (await self.get(upload_id)).new.owner

    async def get(self, upload_id: str) -> UploadSnapshot:
        return await self._run(lifecycle.get, upload_id)

    async def missing_chunks(self, upload_id: str, limit: int) -> MissingChunks:
        return await self._run(lifecycle.missing_chunks, upload_id, limit)

    async def watch(
        self, upload_id: str, after_sequence: int, *, only_end: bool = False
    ) -> AsyncIterator[UploadSnapshot]:
        seen = after_sequence
        with self._changes.listen(upload_id) as changed:
            while True:
                changed.clear()  # before the read: a later change sets it again
                snapshot = await self.get(upload_id)
                ended = is_terminal(snapshot.status)
                if snapshot.sequence > seen:
                    seen = snapshot.sequence
                    if ended or not only_end:
                        yield snapshot
                if ended:
                    return
                await wait_at_most(changed, _POLL_SECONDS)

    async def list_uploads(
        self, tenant: str, statuses: frozenset[UploadStatus], limit: int, after: str
    ) -> UploadPage:
        return await self._run(lifecycle.list_uploads, tenant, statuses, limit, after)

    # -- the workers' side

    async def claim_part(
        self, upload_id: str, number: int, holder: str, lease_seconds: float
    ) -> PartClaim | None:
        return await self._run(parts.claim_part, upload_id, number, holder, lease_seconds)

    async def claim_completion(
        self, upload_id: str, holder: str, lease_seconds: float
    ) -> CompletionClaim | None:
        return await self._run(completion.claim_completion, upload_id, holder, lease_seconds)

    async def extend_claim(self, claim: PartClaim | CompletionClaim, lease_seconds: float) -> None:
        await self._run(fences.extend_claim, claim, lease_seconds)

    async def release_claim(self, claim: PartClaim | CompletionClaim) -> None:
        await self._run(fences.release_claim, claim)

    async def part_chunks(
        self, upload_id: str, plan: PartPlan, after_number: int, limit: int
    ) -> Sequence[ChunkRef]:
        return await self._run(parts.part_chunks, upload_id, plan, after_number, limit)

    async def set_multipart(self, claim: PartClaim, multipart_id: str) -> str:
        return await self._run(parts.set_multipart, claim, multipart_id)

    async def record_part(self, claim: PartClaim, part: StoredPartRecord) -> Completion:
        return await self._run(parts.record_part, claim, part)

    async def reject_chunk(self, claim: PartClaim, number: int) -> UploadSnapshot:
        return await self._run(parts.reject_chunk, claim, number)

    async def reopen_part(self, claim: CompletionClaim, number: int) -> None:
        await self._run(completion.reopen_part, claim, number)

    async def stored_parts(
        self, upload_id: str, after_number: int, limit: int
    ) -> Sequence[StoredPartRecord]:
        return await self._run(parts.stored_parts, upload_id, after_number, limit)

    async def finish(
        self, claim: CompletionClaim, crc32c: int, sha256: bytes | None
    ) -> UploadSnapshot:
        return await self._run(completion.finish, claim, crc32c, sha256)

    async def fail(
        self, upload_id: str, reason: str, detail: str, fence: Fence | None = None
    ) -> UploadSnapshot:
        return await self._run(lifecycle.fail, upload_id, reason, detail, fence)

    # -- the sweeper's and the relay's side

    async def ready_work(self, limit: int, offset: int = 0) -> Sequence[WorkItem]:
        for upload_id in await self._run(sweep.behind, _BEHIND_LIMIT):
            await self._catch_up(upload_id)
        end = offset + limit
        items = list(await self._run(sweep.ready_completions, end))
        if len(items) < end:
            items += await self._run(sweep.ready_parts, end - len(items))
        return items[offset:]

    async def expire_due(self, limit: int) -> Sequence[UploadSnapshot]:
        return await self._run(sweep.expire_due, limit)

    async def cleanups_due(self, limit: int, offset: int = 0) -> Sequence[UploadSnapshot]:
        return await self._run(sweep.cleanups_due, limit, offset)

    async def cleanup_done(self, upload_id: str) -> None:
        await self._run(sweep.cleanup_done, upload_id)

    async def purge_due(self, limit: int) -> int:
        purged = await self._run(sweep.purge_due, limit)
        while await self._run(sweep.clear_purged):
            pass  # in bounded steps, so that chunks are accepted in between
        return purged

    async def known_tokens(self, upload_id: str, tokens: Sequence[str]) -> frozenset[str]:
        return await self._run(sweep.known_tokens, upload_id, tokens)

    async def pending_events(self, limit: int) -> Sequence[LedgerEvent]:
        return await self._run(sweep.pending_events, limit)

    async def upload_events(self, upload_id: str) -> Sequence[LedgerEvent]:
        return await self._run(sweep.upload_events, upload_id)

    async def events_published(self, upload_id: str, up_to_sequence: int) -> None:
        await self._run(sweep.events_published, upload_id, up_to_sequence)

    async def withhold_events(self, upload_id: str, seconds: float) -> None:
        await self._run(sweep.withhold_events, upload_id, seconds)

    async def backlog(self) -> Backlog:
        return await self._run(sweep.backlog)

    # -- the operators' side

    async def inspect(self, upload_id: str) -> InspectedUpload:
        return await self._run(inspection.inspect, upload_id)

    async def inspect_parts(
        self, upload_id: str, after_number: int, limit: int
    ) -> Sequence[InspectedPart]:
        return await self._run(inspection.inspect_parts, upload_id, after_number, limit)

    async def work_left(self) -> WorkLeft:
        return await self._run(inspection.work_left)

    async def _catch_up(self, upload_id: str) -> Completion:
        """Run the remaining steps; each one is bounded and atomic."""
        ready: list[int] = []
        while True:
            done, behind = await self._run(completion.advance, upload_id)
            ready += done.ready_parts
            if not behind:
                return Completion(done.snapshot, tuple(ready), done.completion_ready)
