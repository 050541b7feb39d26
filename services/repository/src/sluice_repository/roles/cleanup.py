"""Crash-safe clean-up after uploads and nodes that ended (rules 13, 25, 26)."""

from __future__ import annotations

import structlog

from sluice_core.errors import NotFound
from sluice_core.ports.catalogue import ObjectDeletion, ObjectIntent
from sluice_core.ports.quotas import QuotaReservation
from sluice_core.uploads.model import ObjectRef, UploadSnapshot, UploadStatus
from sluice_core.uploads.states import is_terminal
from sluice_repository.deps import RepositoryDeps

_log = structlog.get_logger(__name__)


class Cleaner:
    """Removes leftovers, one upload or object at a time.

    Every step is idempotent and the record that it is done comes last. A sweeper that dies midway,
    or two concurrent sweepers, only repeat some steps.
    """

    def __init__(self, deps: RepositoryDeps) -> None:
        self._deps = deps

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
            # After the intent: no commit can need the room any more.
            await self._deps.catalogue.release(new.tenant, new.upload_id)
        await self._deps.chunks.drop_upload(new.upload_id)
        await self._deps.ledger.cleanup_done(new.upload_id)

    async def clean_stale_intent(self, intent: ObjectIntent) -> bool:
        """Remove what a worker recorded as an intent, if its upload is unknown or ended (rule 13).

        Return False while the upload is live: its own end cleans up.
        """
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

    async def check_reservation(self, reservation: QuotaReservation) -> bool:
        """Release a reservation whose upload is unknown or ended.

        An upload that a kill left between reservation and creation is unknown. Always return True:
        an open upload's reservation is listed again when the time for the next check has come.
        """
        catalogue = self._deps.catalogue
        assert catalogue is not None
        tenant, upload_id = reservation.tenant, reservation.upload_id
        try:
            snapshot = await self._deps.ledger.get(upload_id)
        except NotFound:
            is_open = False
        else:
            is_open = snapshot.new.tenant == tenant and not is_terminal(snapshot.status)
        if is_open:
            await catalogue.reservation_checked(tenant, upload_id)
        else:
            _log.info("reservation.released", upload_id=upload_id, bytes=reservation.size)
            await catalogue.release(tenant, upload_id)
        return True

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


def _ignore_missing_bucket(gone: NotFound) -> None:
    """Raise unless the whole bucket is missing, and with it everything to remove."""
    if gone.reason != "BUCKET_NOT_FOUND":
        raise gone
