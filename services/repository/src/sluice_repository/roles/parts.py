"""The role `parts`: copies the chunks of one part from the chunk store to the object store."""

from __future__ import annotations

import asyncio
from functools import partial
from weakref import WeakValueDictionary

import structlog

from sluice_common.backends.hints import enqueue_hints
from sluice_common.process.crash_points import CrashPoint, crash_point
from sluice_common.telemetry.tracing import span
from sluice_core.errors import (
    Aborted,
    DataLoss,
    NotFound,
    SluiceError,
    Unavailable,
)
from sluice_core.objects.body import HashingBody
from sluice_core.objects.marks import upload_mark
from sluice_core.ports import (
    Completion,
    Delivery,
    PartClaim,
    StoredPartRecord,
    WorkKind,
)
from sluice_core.ports.catalogue import ObjectIntent
from sluice_core.ports.object_store import ObjectAttributes, ObjectInfo
from sluice_core.uploads.model import UploadStatus
from sluice_repository.deps import RepositoryDeps
from sluice_repository.roles.completer import Completer, FreshPut
from sluice_repository.roles.part_source import PartSource
from sluice_repository.work.claims import (
    claimant,
    claimed,
    is_fenced,
    retry_unavailable,
    while_claimed,
)
from sluice_repository.work.failure import fail_upload
from sluice_repository.work.guard import is_transient

_log = structlog.get_logger(__name__)
_ENQUEUE_SECONDS = 2.0
_PERMANENT_REASONS = frozenset(
    {
        "BUCKET_NOT_FOUND",
        "STORE_DENIED",
        "STORE_LACKS_CALL",
        "MULTIPART_NOT_FOUND",
        "BAD_KEY",
        "BAD_ENCRYPTION",
        "BAD_STORAGE_CLASS",
    }
)
"""Reasons that no retry changes. With a lost multipart all parts stored before are lost, and their
chunks are already dropped: the client must start again."""


class PartStorer:
    """Handles PART items; one instance serves all part workers of a process.

    The order keeps the bytes safe. After each step a crash leaves a state that the next holder
    continues from:

        claim → intent row → open multipart → ledger knows its id → intent row knows it (rule 13)
              → store the part → ledger records it (rule 16) → chunks dropped (rule 17)
    """

    def __init__(self, deps: RepositoryDeps, completer: Completer | None = None) -> None:
        """Store parts with `deps`.

        Args:
            completer: of this process, if it has that role. It completes a single-PUT upload that
                waits for completion right after the PUT, without a pass through the queue.
        """
        self._deps = deps
        self._completer = completer
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._checked_buckets: set[str] = set()

    @property
    def role(self) -> str:
        return "parts"

    @property
    def kind(self) -> WorkKind:
        return WorkKind.PART

    async def handle(self, delivery: Delivery) -> str:
        """Store the part of the item if it is not stored yet.

        Outcomes: stored, rejected (a chunk was damaged; the client sends it again), failed (the
        upload failed), stale (done, held or gone). Any other error is raised with the claim
        released.
        """
        item, ledger = delivery.item, self._deps.ledger
        holder, lease_seconds = claimant(self._deps, delivery), self._deps.options.lease_seconds
        claiming = ledger.claim_part(item.upload_id, item.part_number, holder, lease_seconds)
        async with claimed(ledger, claiming) as claim:
            if claim is None:
                return "stale"
            crash_point(CrashPoint.AFTER_CLAIM_PART)
            with span(
                "repository.part",
                parent=claim.snapshot.new.trace_parent,
                upload_id=item.upload_id,
                part=claim.plan.number,
                size=claim.size,
            ):
                return await self._transfer(delivery, claim)

    async def _transfer(self, delivery: Delivery, claim: PartClaim) -> str:
        deps = self._deps
        source = PartSource(deps.ledger, deps.chunks, claim)
        held = partial(while_claimed, deps, delivery, claim)
        try:
            with deps.metrics.part_seconds.time():
                stored, info = await held(lambda: self._store(claim, source))
        except DataLoss as loss:
            if await held(lambda: self._reject_damaged(claim, source)):
                return "rejected"
            raise Unavailable(
                "STORE_UNAVAILABLE",
                "The object store received other bytes than the chunk store holds; the part is "
                "retried.",
            ) from loss
        except (SluiceError, TimeoutError) as error:
            if (reason := self._permanent_reason(claim, error)) is not None:
                log_detail = error.operator_message if isinstance(error, SluiceError) else ""
                return await fail_upload(deps, claim, reason, _public_message(error), log_detail)
            raise
        # Outside the heartbeat: recording ends the claim, which must not count as lost.
        completion = await retry_unavailable(deps.ledger.record_part, claim, stored)
        deps.metrics.part_bytes.inc(stored.size)
        crash_point(CrashPoint.AFTER_RECORD_PART)
        await self._drop_chunks(claim, source)
        if (
            completion.completion_ready
            and info is not None
            and await self._try_complete(delivery, claim, completion, FreshPut(stored, info))
        ):
            return "stored"
        await self._enqueue_hints(claim, completion)
        return "stored"

    # -- storing

    async def _store(
        self, claim: PartClaim, source: PartSource
    ) -> tuple[StoredPartRecord, ObjectInfo | None]:
        """Put the bytes, and once more if the store reports another checksum than ours."""
        async with asyncio.timeout(self._deps.options.part_timeout_seconds):
            await source.measure()
            await self._check_bucket(claim)
            multipart_id = "" if claim.single_put else await self._multipart(claim)
            try:
                stored = await self._put(claim, source, multipart_id)
            except DataLoss as mismatch:
                if mismatch.reason != "CHECKSUM_MISMATCH":
                    raise
                self._deps.metrics.integrity.failures.labels("object_store").inc()
                _log.warning(
                    "part.checksum_mismatched",
                    upload_id=claim.snapshot.upload_id,
                    part=claim.plan.number,
                )
                stored = await self._put(claim, source, multipart_id)
        crash_point(CrashPoint.AFTER_UPLOAD_PART)
        return stored

    async def _put(
        self, claim: PartClaim, source: PartSource, multipart_id: str
    ) -> tuple[StoredPartRecord, ObjectInfo | None]:
        """Return the part's record and, for a single PUT, the object that the store confirmed."""
        ref, number = claim.snapshot.new.object, claim.plan.number
        if claim.single_put:
            await self._intend(claim, "")
            body = HashingBody(source.body())
            info = await self._deps.objects.put(ref, body, _attributes(claim))
            record = StoredPartRecord(number, info.etag, claim.size, source.crc32c, body.sha256)
            return record, info
        tag = await self._deps.objects.put_part(ref, multipart_id, number, source.body())
        return StoredPartRecord(number, tag.etag, claim.size, source.crc32c), None

    async def _check_bucket(self, claim: PartClaim) -> None:
        """Check the bucket once per process; a store that creates buckets creates it now."""
        bucket = claim.snapshot.new.object.bucket
        if bucket not in self._checked_buckets:
            await self._deps.objects.check(bucket)
            self._checked_buckets.add(bucket)

    async def _multipart(self, claim: PartClaim) -> str:
        """Return the id of the upload's multipart, opening it if necessary (rule 13)."""
        upload_id = claim.snapshot.upload_id
        if claim.snapshot.multipart_id:
            return claim.snapshot.multipart_id
        # The workers of this process open one multipart between them; those of others may race.
        lock = self._opening.setdefault(upload_id, asyncio.Lock())
        async with lock:
            known = (await self._deps.ledger.get(upload_id)).multipart_id
            return known or await self._open(claim)

    async def _open(self, claim: PartClaim) -> str:
        objects, ref = self._deps.objects, claim.snapshot.new.object
        await self._intend(claim, "")
        opened = await objects.open_multipart(ref, _attributes(claim))
        crash_point(CrashPoint.AFTER_OPEN_MULTIPART)
        try:
            winner = await self._deps.ledger.set_multipart(claim, opened)
        except (Aborted, NotFound):
            # Certainly not recorded. After Unavailable it may be recorded and must stay; if it is
            # not, clean-up finds it by its key when the upload has ended.
            await objects.abort_multipart(ref, opened)
            raise
        crash_point(CrashPoint.AFTER_SET_MULTIPART)
        if winner != opened:
            await objects.abort_multipart(ref, opened)
        await self._intend(claim, winner)
        return winner

    async def _intend(self, claim: PartClaim, multipart_id: str) -> None:
        """Record the object in the catalogue first, so that a lost ledger leaves no orphan."""
        if self._deps.catalogue is None:
            return
        new = claim.snapshot.new
        await self._deps.catalogue.record_intent(
            ObjectIntent(new.upload_id, new.tenant, new.object, multipart_id, self._deps.clock())
        )

    # -- after the part is recorded

    async def _drop_chunks(self, claim: PartClaim, source: PartSource) -> None:
        """Drop the part's chunks, which must not happen before it is recorded (rule 17).

        Best effort: clean-up of the ended upload removes the rest.
        """
        try:
            async for tokens in source.tokens():
                await self._deps.chunks.drop(claim.snapshot.upload_id, tokens)
        except (SluiceError, OSError) as error:
            _log.warning(
                "chunk.drop_failed",
                upload_id=claim.snapshot.upload_id,
                part=claim.plan.number,
                error=str(error),
            )

    async def _try_complete(
        self, delivery: Delivery, claim: PartClaim, completion: Completion, put: FreshPut
    ) -> bool:
        """Complete the upload in this worker; return False if a queue worker must do it.

        A failed completion does not affect the part, which is stored.
        """
        if self._completer is None:
            return False
        try:
            outcome = await self._completer.handle_put(delivery, put)
        except asyncio.CancelledError:
            # This process stops: another one takes it at once.
            await self._enqueue_hints(claim, completion)
            raise
        except (SluiceError, TimeoutError) as error:
            _log.warning("completion.delayed", upload_id=claim.snapshot.upload_id, error=str(error))
            return False
        self._deps.metrics.items[WorkKind.COMPLETION].labels(outcome).inc()
        return True

    async def _enqueue_hints(self, claim: PartClaim, completion: Completion) -> None:
        new = claim.snapshot.new
        queue = self._deps.queue
        await enqueue_hints(queue, new.upload_id, new.tenant, completion, _ENQUEUE_SECONDS)

    async def _reject_damaged(self, claim: PartClaim, source: PartSource) -> int:
        """Mark damaged and lost chunks as missing again (rule 8) and return how many there were.

        All of the part's chunks are checked in one pass, so that the client learns of them at once.
        """
        upload_id = claim.snapshot.upload_id
        rejected = 0
        async for chunk in source.damaged_chunks():
            await self._deps.ledger.reject_chunk(claim, chunk.number)
            rejected += 1
            self._deps.metrics.integrity.failures.labels("chunk_store").inc()
            _log.error("chunk.rejected", upload_id=upload_id, number=chunk.number)
            # These bytes are unreferenced now.
            await self._deps.chunks.drop(upload_id, [chunk.token])
        return rejected

    def _permanent_reason(self, claim: PartClaim, error: Exception) -> str | None:
        """Return the reason to fail the upload with, or None if a retry can succeed.

        Retries end at the upload's expiry. Before completion the sweeper expires it. Nothing
        expires a COMPLETING upload (rule 18), so its deadline is checked here, by the ledger's
        clock, because this process's clock may be wrong.
        """
        if isinstance(error, SluiceError) and error.reason in _PERMANENT_REASONS:
            return error.reason
        snapshot = claim.snapshot
        if (
            snapshot.status is UploadStatus.COMPLETING
            and is_transient(error)
            and not is_fenced(error)
            and claim.claimed_at >= snapshot.expires_at
        ):
            return error.reason if isinstance(error, SluiceError) else "STORE_UNAVAILABLE"
        return None


def _public_message(error: SluiceError | TimeoutError) -> str:
    if isinstance(error, SluiceError):
        return error.message
    return "The object store did not accept the part in time."


def _attributes(claim: PartClaim) -> ObjectAttributes:
    new = claim.snapshot.new
    mark = upload_mark(new.upload_id)
    return ObjectAttributes(new.content_type, new.storage_class, new.encryption, mark)
