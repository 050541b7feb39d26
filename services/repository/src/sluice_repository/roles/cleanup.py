"""Removing what an upload that ended leaves behind, in an order that a crash may cut anywhere.

Every step is idempotent, and the note that it is done comes last: a sweeper that dies half-way,
or two of them at once, only do some steps twice (rules 13, 25, 26).
"""

from __future__ import annotations

import structlog

from sluice_core.errors import NotFound
from sluice_core.ports.catalogue import ObjectDeletion, ObjectIntent
from sluice_core.uploads.model import ObjectRef, UploadSnapshot, UploadStatus
from sluice_core.uploads.states import is_terminal
from sluice_repository.deps import RepositoryDeps

_log = structlog.get_logger(__name__)


class Cleaner:
    """Removes leftovers, one upload or object at a time."""

    def __init__(self, deps: RepositoryDeps) -> None:
        self._deps = deps

    async def ended_upload(self, snapshot: UploadSnapshot) -> None:
        """Rule 25: multiparts, intent, object and chunks of an upload that ended; then its note.

        A completed upload keeps its object, but a worker that died while opening may have left a
        multipart beside it.
        """
        new = snapshot.new
        completed = snapshot.status is UploadStatus.COMPLETED
        if not completed or snapshot.multipart_id:
            await self._abort_multiparts(new.object, snapshot.multipart_id)
        if not completed:
            # The intent first. A commit of this upload may be under way still, from a completer
            # that is long gone: it is over when the intent is, and then seen below, or it finds
            # none and makes no node. The other way round the node could lose its object.
            if self._deps.catalogue is not None:
                await self._deps.catalogue.clear_intent(new.upload_id, new.object)
            await self._delete_unless_live(new.object)
        await self._deps.chunks.drop_upload(new.upload_id)
        await self._deps.ledger.cleanup_done(new.upload_id)

    async def stale_intent(self, intent: ObjectIntent) -> bool:
        """Rule 13: what a worker announced to make, when its upload is unknown or has ended.

        False while the upload lives: then its own end cleans up.
        """
        catalogue = self._deps.catalogue
        assert catalogue is not None
        try:
            snapshot = await self._deps.ledger.get(intent.upload_id)
        except NotFound:
            _log.info("intent_of_unknown_upload", upload_id=intent.upload_id)
        else:
            # Under the same upload id there may be another upload by now, of another object.
            is_its_own = snapshot.new.object == intent.object
            if is_its_own and not is_terminal(snapshot.status):
                return False
        await self._abort_multiparts(intent.object, intent.multipart_id)
        # The object goes as a deletion, after the intent: a late commit either made its node, which
        # the deletion then leaves alone, or finds the intent cleared.
        await catalogue.abandon_intent(intent)
        return True

    async def object_deletion(self, deletion: ObjectDeletion) -> None:
        """Rule 26: the object of a deleted or superseded node, once nobody may read it any more."""
        catalogue = self._deps.catalogue
        assert catalogue is not None
        await self._delete_unless_live(deletion.object)
        await catalogue.deletion_done(deletion.deletion_id)

    async def _abort_multiparts(self, ref: ObjectRef, known_id: str) -> None:
        """The one that was recorded and those that nobody lived to record."""
        objects = self._deps.objects
        try:
            strays = set(await objects.open_multiparts(ref))
            for multipart_id in strays | ({known_id} if known_id else set()):
                await objects.abort_multipart(ref, multipart_id)
        except NotFound as gone:
            _ignore_missing_bucket(gone)

    async def _delete_unless_live(self, ref: ObjectRef) -> None:
        catalogue = self._deps.catalogue
        if catalogue is not None and await catalogue.is_object_live(ref):
            _log.error("object_of_ended_upload_is_live", bucket=ref.bucket, key=ref.key)
            return
        try:
            await self._deps.objects.delete(ref)
        except NotFound as gone:
            _ignore_missing_bucket(gone)


def _ignore_missing_bucket(gone: NotFound) -> None:
    """With the bucket everything in it is gone, which is what was asked for."""
    if gone.reason != "BUCKET_NOT_FOUND":
        raise gone
