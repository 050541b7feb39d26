"""Crash-safe clean-up after uploads and nodes that ended (rules 13, 25, 26)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from sluice_core.errors import NotFound, SluiceError
from sluice_core.ports.catalogue import ObjectDeletion, ObjectIntent
from sluice_core.ports.quotas import QuotaReservation
from sluice_core.uploads.ids import direct_upload_id, nonce_of
from sluice_core.uploads.model import ObjectRef, UploadSnapshot, UploadStatus
from sluice_core.uploads.states import is_terminal
from sluice_repository.deps import RepositoryDeps

_log = structlog.get_logger(__name__)
_DIRECT = nonce_of(direct_upload_id(""))
_CONCURRENT_READS = 32
"""Reads of the ledger at a time when reservations are checked."""


class Cleaner:
    """Removes leftovers, one upload or object at a time.

    Every step is idempotent and the record that it is done comes last. A sweeper that dies midway,
    or two concurrent sweepers, only repeat some steps.
    """

    def __init__(self, deps: RepositoryDeps) -> None:
        self._deps = deps
        self._reads = asyncio.Semaphore(_CONCURRENT_READS)

    async def clean_ended_upload(self, snapshot: UploadSnapshot) -> None:
        """Remove all that an ended upload left, then record the clean-up (rule 25).

        A completed upload keeps its object, but a worker that died while opening a multipart may
        have left one.
        """
        new = snapshot.new
        completed = snapshot.status is UploadStatus.COMPLETED
        if not completed or snapshot.multipart_id:
            await self._abort_multiparts(new.object, snapshot.multipart_id)
        if not completed:
            # Clear the intent first. A late commit of a fenced completer may still be running. It
            # either ends before the intent is cleared, and the live check below sees its node, or
            # it finds no intent and creates no node. In the reverse order the node could lose its
            # object.
            if self._deps.catalogue is not None:
                await self._deps.catalogue.clear_intent(new.upload_id, new.object)
            await self._delete_unless_live(new.object)
            if self._deps.catalogue is not None:
                # After the intent: no commit can need the room any more. The commit of a completed
                # upload has released it.
                await self._deps.catalogue.release(new.tenant, new.upload_id)
        await self._deps.chunks.drop_upload(new.upload_id)
        await self._deps.ledger.cleanup_done(new.upload_id)

    async def clean_stale_intent(self, intent: ObjectIntent) -> bool:
        """Remove what a worker recorded as an intent, if its upload is unknown or ended (rule 13).

        Return False while the upload is live: its own end cleans up. Return False also for the
        multipart of a photo, which no ledger knows; the gateway sweeps those.
        """
        if nonce_of(intent.upload_id) == _DIRECT:
            return False
        catalogue = self._deps.catalogue
        assert catalogue is not None
        try:
            snapshot = await self._deps.ledger.get(intent.upload_id)
        except NotFound:
            _log.info("intent.orphaned", upload_id=intent.upload_id)
        else:
            # The upload id may have been reused for another object.
            is_same_object = snapshot.new.object == intent.object
            if is_same_object and not is_terminal(snapshot.status):
                return False
        await self._abort_multiparts(intent.object, intent.multipart_id)
        # The object is deleted by a scheduled deletion, after the intent is cleared: a late commit
        # either created its node, which the deletion leaves alone, or finds the intent cleared.
        await catalogue.abandon_intent(intent)
        return True

    async def check_reservations(self, reservations: Sequence[QuotaReservation]) -> int:
        """Release reservations whose upload is unknown or ended, or belongs to another drive.

        An upload that a kill left between reservation and creation is unknown. Return how many were
        checked; the others are still due, because the ledger did not answer for them.
        """
        catalogue = self._deps.catalogue
        assert catalogue is not None
        found = await asyncio.gather(*map(self._find_upload, reservations))
        opened: list[QuotaReservation] = []
        stale: list[QuotaReservation] = []
        unknown = 0
        for reservation, upload in zip(reservations, found, strict=True):
            if isinstance(upload, BaseException):
                unknown += 1
                _log.warning(
                    "reservation.check_failed",
                    upload_id=reservation.upload_id,
                    error=str(upload) or repr(upload),
                )
            elif upload is None or not _holds(upload, reservation):
                stale.append(reservation)
            else:
                opened.append(reservation)
                expected = upload.new.expected_size
                if expected is not None and expected < reservation.size:
                    # Of two concurrent calls with one request id, the other one asked for more.
                    await catalogue.shrink_reservation(reservation, expected)
        if stale:
            await catalogue.drop_reservations(stale)
        for reservation in stale:
            _log.info(
                "reservation.released", upload_id=reservation.upload_id, bytes=reservation.size
            )
        if opened:
            delay = self._deps.options.open_reservation_seconds
            await catalogue.reservations_checked(opened, delay)
        return len(reservations) - unknown

    async def _find_upload(
        self, reservation: QuotaReservation
    ) -> UploadSnapshot | SluiceError | TimeoutError | None:
        """Return the upload of a reservation, None if it is unknown; return other errors."""
        try:
            async with self._reads, asyncio.timeout(self._deps.options.call_timeout_seconds):
                return await self._deps.ledger.get(reservation.upload_id)
        except NotFound:
            return None
        except (SluiceError, TimeoutError) as error:
            return error

    async def delete_object(self, deletion: ObjectDeletion) -> None:
        """Delete the object of a deleted or superseded node after its last reader (rule 26)."""
        catalogue = self._deps.catalogue
        assert catalogue is not None
        await self._delete_unless_live(deletion.object)
        await catalogue.deletion_done(deletion.deletion_id)

    async def _abort_multiparts(self, ref: ObjectRef, known_id: str) -> None:
        """Abort the recorded multipart and those that a crash left unrecorded."""
        objects = self._deps.objects
        try:
            open_ids = set(await objects.open_multiparts(ref))
            for multipart_id in open_ids | ({known_id} if known_id else set()):
                await objects.abort_multipart(ref, multipart_id)
        except NotFound as gone:
            _ignore_missing_bucket(gone)

    async def _delete_unless_live(self, ref: ObjectRef) -> None:
        catalogue = self._deps.catalogue
        if catalogue is not None and await catalogue.is_object_live(ref):
            _log.error("object.deletion_skipped", bucket=ref.bucket, key=ref.key)
            return
        try:
            await self._deps.objects.delete(ref)
        except NotFound as gone:
            _ignore_missing_bucket(gone)


def _holds(upload: UploadSnapshot, reservation: QuotaReservation) -> bool:
    """Return whether an open upload may need the room. A caller names the upload: see the drive."""
    new = upload.new
    is_same = (new.tenant, new.drive) == (reservation.tenant, reservation.drive)
    return is_same and not is_terminal(upload.status)


def _ignore_missing_bucket(gone: NotFound) -> None:
    """Raise unless the whole bucket is missing, and with it everything to remove."""
    if gone.reason != "BUCKET_NOT_FOUND":
        raise gone
