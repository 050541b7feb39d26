"""The role `parts`: carries the chunks of one part from the chunk store to the object store.

The order is what keeps bytes safe; each line ends in a crash window that the next holder closes:

    claim → intent row → open multipart → ledger knows its id → intent row knows it (rule 13)
          → store the part → ledger records it (rule 16) → chunks dropped (rule 17)
"""

from __future__ import annotations

import asyncio
from functools import partial
from weakref import WeakValueDictionary

import structlog
from prometheus_client import Counter

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
    WorkItem,
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
    is_fenced,
    release,
    retry_unavailable,
    while_held,
)
from sluice_repository.work.guard import is_transient

_log = structlog.get_logger(__name__)
_ANNOUNCE_SECONDS = 2.0
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
"""What no repetition heals. A multipart that is gone took the parts stored before with it, and
their bytes are dropped: the client has to start again."""


class PartStorer:
    """Handles PART items; one instance serves all part workers of a process."""

    def __init__(self, deps: RepositoryDeps, completer: Completer | None = None) -> None:
        """`completer`: of this process, where it has that role. An upload that is one object and
        was waiting for it is then completed in the same go, without a turn of the queue."""
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

    @property
    def outcomes(self) -> Counter:
        return self._deps.metrics.parts

    async def handle(self, delivery: Delivery) -> str:
        """Store the part that the item hints at, if it is still to be stored.

        Outcomes: stored, rejected (a chunk was damaged: the client sends it again), failed (the
        upload is), stale (done, held or gone). Anything else raises, with the claim released.
        """
        item, options = delivery.item, self._deps.options
        try:
            claim = await self._deps.ledger.claim_part(
                item.upload_id,
                item.part_number,
                claimant(self._deps, delivery),
                options.lease_seconds,
            )
        except NotFound:
            return "stale"
        if claim is None:
            return "stale"
        crash_point(CrashPoint.AFTER_CLAIM_PART)
        try:
            with span(
                "repository.part",
                parent=claim.snapshot.new.trace_parent,
                upload_id=item.upload_id,
                part=claim.plan.number,
                size=claim.size,
            ):
                return await self._carry(delivery, claim)
        except (Exception, asyncio.CancelledError):
            # Undone, for whatever reason: another worker may have it at once.
            await release(self._deps.ledger, claim)
            raise

    async def _carry(self, delivery: Delivery, claim: PartClaim) -> str:
        deps, options = self._deps, self._deps.options
        source = PartSource(deps.ledger, deps.chunks, claim)

        async def beat() -> None:
            await deps.ledger.extend_claim(claim, options.lease_seconds)
            await deps.queue.extend(delivery)

        held = partial(
            while_held,
            beat,
            lease_seconds=options.lease_seconds,
            heartbeat_seconds=options.heartbeat_seconds,
        )
        try:
            with deps.metrics.part_seconds.time():
                stored, info = await held(lambda: self._store(claim, source))
        except DataLoss as loss:
            if await held(lambda: self._reject_damaged(claim, source)):
                return "rejected"
            raise Unavailable(
                "STORE_UNAVAILABLE",
                "The bytes differ at the object store but not here; storing them again later.",
            ) from loss
        except (SluiceError, TimeoutError) as error:
            if (reason := self._hopeless(claim, error)) is not None:
                return await self._fail(claim, reason, error)
            raise
        # Outside the heartbeat: once recorded, the claim is over and must not count as lost.
        completion = await retry_unavailable(deps.ledger.record_part, claim, stored)
        deps.metrics.part_bytes.inc(stored.size)
        crash_point(CrashPoint.AFTER_RECORD_PART)
        await self._drop_chunks(claim, source)
        if (
            completion.completion_ready
            and info is not None
            and await self._completed(delivery, claim, completion, FreshPut(stored, info))
        ):
            return "stored"
        await self._announce(claim, completion)
        return "stored"

    # -- storing

    async def _store(
        self, claim: PartClaim, source: PartSource
    ) -> tuple[StoredPartRecord, ObjectInfo | None]:
        """Put the bytes; a store that saw other bytes than we claimed gets them a second time."""
        async with asyncio.timeout(self._deps.options.part_timeout_seconds):
            await source.measure()
            await self._check_bucket(claim)
            multipart_id = "" if claim.single_put else await self._multipart(claim)
            try:
                stored = await self._put(claim, source, multipart_id)
            except DataLoss as mismatch:
                if mismatch.reason != "CHECKSUM_MISMATCH":
                    raise
                self._deps.metrics.integrity_failures.labels("object_store").inc()
                _log.warning(
                    "store_saw_other_bytes",
                    upload_id=claim.snapshot.upload_id,
                    part=claim.plan.number,
                )
                stored = await self._put(claim, source, multipart_id)
        crash_point(CrashPoint.AFTER_UPLOAD_PART)
        return stored

    async def _put(
        self, claim: PartClaim, source: PartSource, multipart_id: str
    ) -> tuple[StoredPartRecord, ObjectInfo | None]:
        """The part's record and, of a single PUT, the object as the store has confirmed it."""
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
        """Once per process and bucket: a store that makes buckets itself makes it now."""
        bucket = claim.snapshot.new.object.bucket
        if bucket not in self._checked_buckets:
            await self._deps.objects.check(bucket)
            self._checked_buckets.add(bucket)

    async def _multipart(self, claim: PartClaim) -> str:
        """The id of the upload's multipart, opening it if nobody has (rule 13)."""
        upload_id = claim.snapshot.upload_id
        if claim.snapshot.multipart_id:
            return claim.snapshot.multipart_id
        # Workers of this process open one multipart, not one each; those of others may race us.
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
            # Certainly not recorded. After Unavailable it may be: then it must live, and if it is
            # not, clean-up finds it by its key when the upload has ended.
            await objects.abort_multipart(ref, opened)
            raise
        crash_point(CrashPoint.AFTER_SET_MULTIPART)
        if winner != opened:
            await objects.abort_multipart(ref, opened)
        await self._intend(claim, winner)
        return winner

    async def _intend(self, claim: PartClaim, multipart_id: str) -> None:
        """Say in the catalogue what is about to be made, so that a lost ledger orphans nothing."""
        if self._deps.catalogue is None:
            return
        new = claim.snapshot.new
        await self._deps.catalogue.record_intent(
            ObjectIntent(new.upload_id, new.tenant, new.object, multipart_id, self._deps.clock())
        )

    # -- afterwards

    async def _drop_chunks(self, claim: PartClaim, source: PartSource) -> None:
        """Rule 17: only now. What stays behind goes with the rest when the upload has ended."""
        try:
            async for tokens in source.tokens():
                await self._deps.chunks.drop(claim.snapshot.upload_id, tokens)
        except (SluiceError, OSError) as error:
            _log.warning(
                "chunks_not_dropped",
                upload_id=claim.snapshot.upload_id,
                part=claim.plan.number,
                error=str(error),
            )

    async def _completed(
        self, delivery: Delivery, claim: PartClaim, completion: Completion, put: FreshPut
    ) -> bool:
        """Go on to the completion in this worker's own turn; False where somebody else has to.

        Whatever goes wrong is the completion's matter, not the part's, which is stored.
        """
        if self._completer is None:
            return False
        try:
            outcome = await self._completer.handle_put(delivery, put)
        except asyncio.CancelledError:
            # This process ends: another one has it at once.
            await self._announce(claim, completion)
            raise
        except (SluiceError, TimeoutError) as error:
            _log.warning("completion_delayed", upload_id=claim.snapshot.upload_id, error=str(error))
            return False
        self._completer.outcomes.labels(outcome).inc()
        return True

    async def _announce(self, claim: PartClaim, completion: Completion) -> None:
        """Hint at what is ready now. A full queue makes `put` wait, and it is workers like us that
        make room: so not for long, the sweeper hints again."""
        new = claim.snapshot.new
        hints = [
            WorkItem(WorkKind.PART, new.upload_id, new.tenant, number)
            for number in completion.ready_parts
        ]
        if completion.completion_ready:
            hints.append(WorkItem(WorkKind.COMPLETION, new.upload_id, new.tenant))
        try:
            async with asyncio.timeout(_ANNOUNCE_SECONDS):
                for hint in hints:
                    await self._deps.queue.put(hint)
        except (SluiceError, TimeoutError) as error:
            _log.warning("hint_not_queued", upload_id=new.upload_id, error=str(error))

    async def _reject_damaged(self, claim: PartClaim, source: PartSource) -> int:
        """Rule 8: chunks whose bytes are damaged or gone are missing again; how many.

        All of the part's at once: a client that gets to know them one by one sends for long.
        """
        upload_id = claim.snapshot.upload_id
        rejected = 0
        async for chunk in source.damaged():
            await self._deps.ledger.reject_chunk(claim, chunk.number)
            rejected += 1
            self._deps.metrics.integrity_failures.labels("chunk_store").inc()
            _log.error("chunk_rejected", upload_id=upload_id, number=chunk.number)
            # Nothing names these bytes any more.
            await self._deps.chunks.drop(upload_id, [chunk.token])
        return rejected

    def _hopeless(self, claim: PartClaim, error: Exception) -> str | None:
        """The reason to fail the upload with, or None if the part is worth repeating.

        Repeating ends with the upload's life: before completion the sweeper expires it, and while
        it is COMPLETING, when nothing expires it (rule 18), the deadline is looked at here, by the
        ledger's clock: that of this process may be wrong.
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

    async def _fail(self, claim: PartClaim, reason: str, error: SluiceError | TimeoutError) -> str:
        """End the upload. The sentence is stored with it, for its owner; the detail is not."""
        upload_id, detail = claim.snapshot.upload_id, _sentence(error)
        await self._deps.ledger.fail(upload_id, reason, detail, claim.fence)
        shown = error.operator_message if isinstance(error, SluiceError) else detail
        _log.error("upload_failed", upload_id=upload_id, reason=reason, detail=shown)
        self._deps.relay_poke.set()
        return "failed"


def _sentence(error: SluiceError | TimeoutError) -> str:
    if isinstance(error, SluiceError):
        return error.message
    return "The object store did not take the part in time."


def _attributes(claim: PartClaim) -> ObjectAttributes:
    new = claim.snapshot.new
    mark = upload_mark(new.upload_id)
    return ObjectAttributes(new.content_type, new.storage_class, new.encryption, mark)
