"""The role `completer`: turns an upload whose parts are all stored into a node (rule 18)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from sluice_common.process.crash_points import CrashPoint, crash_point
from sluice_common.telemetry.tracing import span
from sluice_core.errors import DataLoss, Internal, SluiceError
from sluice_core.ports import (
    CompletionClaim,
    Delivery,
    StoredPartRecord,
    WorkKind,
)
from sluice_core.ports.catalogue import NodeCommit
from sluice_core.ports.object_store import ObjectInfo
from sluice_core.uploads.checksums import combined_crc32c
from sluice_core.uploads.model import Integrity, UploadSnapshot
from sluice_repository.deps import RepositoryDeps
from sluice_repository.metrics import SizeClass
from sluice_repository.roles.assembly import CompletionRefused, PartsLost, assemble
from sluice_repository.roles.digests import Digest, digest_object
from sluice_repository.work.claims import (
    claimant,
    claimed,
    is_fenced,
    retry_unavailable,
    while_claimed,
)
from sluice_repository.work.failure import fail_upload

_log = structlog.get_logger(__name__)
_PAGE_PARTS = 1_000
_PERMANENT_REASONS = frozenset(
    {
        "BUCKET_NOT_FOUND",
        "STORE_DENIED",
        "PART_TOO_SMALL",
        "OBJECT_NOT_FOUND",
        "DRIVE_NOT_FOUND",
        "PATH_EXISTS",
        "QUOTA_EXCEEDED",
    }
)
"""Reasons of the store and the catalogue that no retry changes: the upload fails with them.
OBJECT_NOT_FOUND is one because the store has just confirmed the object."""


@dataclass(frozen=True, slots=True)
class FreshPut:
    """A single PUT that the object store has just confirmed to this process."""

    part: StoredPartRecord
    info: ObjectInfo


@dataclass(frozen=True, slots=True)
class _ClaimedCompletion:
    """A claimed completion; `requested_at` is when the claim was requested, on the loop's clock."""

    claim: CompletionClaim
    requested_at: float
    put: FreshPut | None

    def trusted_put(self) -> FreshPut | None:
        """Return the put if it certainly stored the bytes that the ledger accepted."""
        put, claim = self.put, self.claim
        if put is None or not claim.single_put or claim.snapshot.crc32c != put.part.crc32c:
            return None
        return put

    def age_seconds(self) -> float:
        return asyncio.get_running_loop().time() - self.requested_at


class Completer:
    """Handles COMPLETION items; one instance serves all completion workers of a process.

        claim → checksum of the parts against the claim → object → its checksum, SHA-256 if it
              must come first (rule 20) → one catalogue transaction (rule 19) → ledger COMPLETED
              → clean-up

    Every step detects what an earlier holder did: a completed multipart answers
    MULTIPART_NOT_FOUND while the object exists; a committed node makes the transaction a no-op;
    only the holder's fence can finish. A completer may therefore die at any point.
    """

    def __init__(self, deps: RepositoryDeps) -> None:
        self._deps = deps

    @property
    def role(self) -> str:
        return "completer"

    @property
    def kind(self) -> WorkKind:
        return WorkKind.COMPLETION

    async def handle(self, delivery: Delivery) -> str:
        """Complete the upload if it is COMPLETING and unclaimed.

        Outcomes: completed, failed, reopened (parts must be uploaded again), stale. Any error is
        raised with the claim released, and retried without limit: COMPLETING never expires.
        """
        return await self._handle(delivery, None)

    async def handle_put(self, delivery: Delivery, put: FreshPut) -> str:
        """Complete a single-PUT upload in the worker that has just stored it.

        The store's fresh answer saves a second request. `delivery` is that of the part.
        """
        return await self._handle(delivery, put)

    async def _handle(self, delivery: Delivery, put: FreshPut | None) -> str:
        requested_at, ledger = asyncio.get_running_loop().time(), self._deps.ledger
        holder, lease_seconds = claimant(self._deps, delivery), self._deps.options.lease_seconds
        claiming = ledger.claim_completion(delivery.item.upload_id, holder, lease_seconds)
        async with claimed(ledger, claiming) as claim:
            if claim is None:
                return "stale"
            crash_point(CrashPoint.AFTER_CLAIM_COMPLETION)
            with (
                self._deps.metrics.completion_seconds.time(),
                span(
                    "repository.completion",
                    parent=claim.snapshot.new.trace_parent,
                    upload_id=claim.snapshot.upload_id,
                    parts=claim.part_count,
                ),
            ):
                return await self._complete(delivery, _ClaimedCompletion(claim, requested_at, put))

    async def _complete(self, delivery: Delivery, work: _ClaimedCompletion) -> str:
        deps, claim = self._deps, work.claim
        try:
            crc32c, sha256 = await while_claimed(
                deps, delivery, claim, lambda: self._make_node(work)
            )
        except CompletionRefused as refused:
            return await fail_upload(deps, claim, refused.reason, refused.detail)
        except PartsLost as lost:
            return await self._reopen(claim, lost.numbers)
        except SluiceError as error:
            # Damage that the store reports is permanent too: there is no other copy of the bytes.
            if error.reason in _PERMANENT_REASONS or isinstance(error, DataLoss):
                return await fail_upload(
                    deps, claim, error.reason, error.message, error.operator_message
                )
            raise
        # Outside the heartbeat: finishing ends the claim, which must not count as lost.
        self._observe(await retry_unavailable(deps.ledger.finish, claim, crc32c, sha256))
        crash_point(CrashPoint.AFTER_FINISH)
        deps.relay_wakeup.set()
        if work.put is None:
            await self._drop_chunks(claim.snapshot.upload_id)
        # Otherwise the worker that put the object drops its chunks; the sweeper's first clean-up
        # removes whatever else senders have staged.
        return "completed"

    def _observe(self, ended: UploadSnapshot) -> None:
        """Measure a completion from its request to its end, both by the ledger's clock.

        An upload whose request an earlier release recorded has no time of it.
        """
        if ended.completing_at is not None and ended.ended_at is not None:
            seconds = max(0.0, ended.ended_at - ended.completing_at)
            size = SizeClass.of(ended.received_bytes)
            self._deps.metrics.upload_seconds.labels(size).observe(seconds)

    async def _make_node(self, work: _ClaimedCompletion) -> tuple[int, bytes | None]:
        """Do every step between claim and finish.

        Return the object's CRC32C, and its SHA-256 if known.
        """
        claim, put = work.claim, work.trusted_put()
        parts = await self._stored_parts(claim) if put is None else [put.part]
        size = sum(part.size for part in parts)
        crc32c = combined_crc32c((part.crc32c, part.size) for part in parts)
        new, snapshot = claim.snapshot.new, claim.snapshot
        # The client's claim and the ledger's combination of the accepted chunks.
        for expected in (new.crc32c, snapshot.crc32c):
            if expected is not None and expected != crc32c:
                raise CompletionRefused(
                    "CHECKSUM_MISMATCH",
                    f"The object's CRC32C is {crc32c:08x}, expected was {expected:08x}.",
                )
        if put is None:
            async with asyncio.timeout(self._deps.options.part_timeout_seconds):
                info = await assemble(self._deps.objects, claim, parts)
        else:
            info = put.info
        crash_point(CrashPoint.AFTER_COMPLETE_MULTIPART)
        self._compare("the object store", info.size, info.crc32c, size, crc32c)
        sha256 = parts[0].sha256 if claim.single_put else None
        sha256 = await self._verified_sha256(
            claim, Digest(size, crc32c, sha256 or b""), must_read=info.crc32c is None
        )
        await self._commit(work, size, crc32c, sha256)
        return crc32c, sha256

    async def _stored_parts(self, claim: CompletionClaim) -> Sequence[StoredPartRecord]:
        """Return all parts in order: at most MAX_PARTS records."""
        upload_id = claim.snapshot.upload_id
        parts: list[StoredPartRecord] = []
        while len(parts) < claim.part_count and (
            page := await self._deps.ledger.stored_parts(
                upload_id, parts[-1].number if parts else 0, _PAGE_PARTS
            )
        ):
            parts.extend(page)
        if [part.number for part in parts] != list(range(1, claim.part_count + 1)):
            raise Internal(
                "PARTS_INCOMPLETE",
                f"The ledger lists {len(parts)} of {claim.part_count} parts as stored.",
            )
        return parts

    def _compare(
        self, source: str, actual_size: int, actual_crc32c: int | None, size: int, crc32c: int
    ) -> None:
        """Raise `CompletionRefused` unless the object matches its parts."""
        if actual_size == size and actual_crc32c in (None, crc32c):
            return
        self._deps.metrics.integrity.failures.labels("completion").inc()
        actual = "none" if actual_crc32c is None else f"{actual_crc32c:08x}"
        raise CompletionRefused(
            "CHECKSUM_MISMATCH",
            f"According to {source} the object has {actual_size} bytes, CRC32C {actual}; "
            f"its parts have {size} bytes, CRC32C {crc32c:08x}.",
        )

    async def _verified_sha256(
        self, claim: CompletionClaim, known: Digest, *, must_read: bool
    ) -> bytes | None:
        """Return the SHA-256 if it is known or required before the node is visible (rule 20).

        Read the object back when the SHA-256 is required and unknown, or when the store keeps no
        CRC32C of the whole object (`must_read`): nothing unverified becomes visible.
        """
        new = claim.snapshot.new
        is_required = new.sha256 is not None or new.integrity is Integrity.SHA256_BEFORE_VISIBLE
        sha256 = known.sha256 or None
        if must_read or (is_required and sha256 is None):
            read = await digest_object(
                self._deps.objects,
                new.object,
                known.size,
                read_timeout_seconds=self._deps.options.read_timeout_seconds,
            )
            self._compare("its own bytes", read.size, read.crc32c, known.size, known.crc32c)
            sha256 = read.sha256
        if new.sha256 is not None and new.sha256 != sha256:
            raise CompletionRefused(
                "CHECKSUM_MISMATCH",
                f"The object's SHA-256 is {sha256.hex() if sha256 else 'unknown'}, "
                f"claimed was {new.sha256.hex()}.",
            )
        return sha256

    async def _commit(
        self, work: _ClaimedCompletion, size: int, crc32c: int, sha256: bytes | None
    ) -> None:
        """Commit the node together with the upload's unpublished ledger events.

        The outbox alone then has the node's events in order (see `Relay`).
        """
        deps, new = self._deps, work.claim.snapshot.new
        if deps.catalogue is None:
            return
        events = await deps.ledger.upload_events(new.upload_id)
        # A completer that was paused past its lease must detect it before it creates a node. Right
        # after the PUT too little time has passed for that.
        if work.put is None or work.age_seconds() > deps.options.heartbeat_seconds:
            await deps.ledger.extend_claim(work.claim, deps.options.lease_seconds)
        async with asyncio.timeout(deps.options.call_timeout_seconds):
            outcome = await deps.catalogue.commit_node(
                NodeCommit(
                    upload_id=new.upload_id,
                    node_id=new.node_id,
                    tenant=new.tenant,
                    drive=new.drive,
                    path=new.path,
                    size=size,
                    content_type=new.content_type,
                    crc32c=crc32c,
                    sha256=sha256,
                    metadata=new.metadata,
                    object=new.object,
                    if_absent=new.if_absent,
                    integrity=new.integrity,
                    ledger_events=tuple(events),
                    trace_parent=new.trace_parent,
                )
            )
        crash_point(CrashPoint.AFTER_CATALOGUE_COMMIT)
        if not outcome.created:
            _log.info("node.already_committed", upload_id=new.upload_id, node_id=new.node_id)
        if events:
            await deps.ledger.events_published(new.upload_id, events[-1].sequence)

    # -- reopening

    async def _reopen(self, claim: CompletionClaim, numbers: Sequence[int]) -> str:
        """Mark the chunks of these parts as missing again (rule 16).

        Reopening the first part may end the claim, because the upload is UPLOADING then. The next
        completion detects the remaining parts.
        """
        upload_id = claim.snapshot.upload_id
        for position, number in enumerate(numbers):
            try:
                await self._deps.ledger.reopen_part(claim, number)
            except SluiceError as error:
                if position > 0 and is_fenced(error):
                    break
                raise
            self._deps.metrics.integrity.failures.labels("object_store").inc()
            _log.error("part.reopened", upload_id=upload_id, part=number)
        return "reopened"

    async def _drop_chunks(self, upload_id: str) -> None:
        try:
            await self._deps.chunks.drop_upload(upload_id)
        except (SluiceError, OSError) as error:
            # The sweeper's clean-up of the ended upload retries.
            _log.warning("chunk.drop_failed", upload_id=upload_id, error=str(error))
