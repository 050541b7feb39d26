"""Multiparts of photos that nobody completes: found by their intents, and aborted."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

import structlog

from sluice_core.errors import NotFound
from sluice_core.photos.states import TAKES_PARTS
from sluice_core.ports.catalogue import ObjectIntent
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.ids import direct_upload_id, nonce_of
from sluice_core.uploads.model import ObjectRef

_DIRECT: Final = nonce_of(direct_upload_id(""))

_log = structlog.get_logger(__name__)


class AbandonedMultiparts:
    """Aborts multiparts of photos that take no parts any more."""

    def __init__(self, catalogue: GatewayCatalogue, objects: ObjectStore) -> None:
        self._catalogue = catalogue
        self._objects = objects

    async def abort(self, intent: ObjectIntent) -> bool:
        """Abort the multiparts of an intent and clear it; return False while it is needed.

        First the list, then the photo: a retry in between leads to an attempt that is under way.
        Every multipart in the list was opened before the photo was read. So when that has no
        attempt under way, none of them is of one, also if one begins afterwards.
        """
        try:
            # Those too which a crash left unrecorded.
            open_ids = {*await self._objects.open_multiparts(intent.object), intent.multipart_id}
        except NotFound as gone:
            if gone.reason != "BUCKET_NOT_FOUND":
                raise
            open_ids = set()
        node_id = _node_of(intent.object)
        photo = (await self._catalogue.photos_of_nodes([node_id])).get(node_id)
        if photo is None or photo.deleted_at is not None or photo.status not in TAKES_PARTS:
            await self._abort_all(intent.object, open_ids)
            await self._catalogue.clear_intent(intent.upload_id, intent.object)
            _log.info("multipart.aborted", upload_id=intent.upload_id)
            return True
        if _attempt_of(intent) != photo.attempt and intent.multipart_id != photo.multipart_id:
            # Of the others, none can be told from those of the attempt that is under way. The
            # intent stays, so that they go when that is over.
            await self._abort_all(intent.object, {intent.multipart_id})
        return False

    async def _abort_all(self, ref: ObjectRef, multipart_ids: Set[str]) -> None:
        for multipart_id in sorted(multipart_ids - {""}):
            await self._objects.abort_multipart(ref, multipart_id)


def is_direct(intent: ObjectIntent) -> bool:
    """Return whether the intent is that of a photo's multipart, and none of an upload's."""
    return nonce_of(intent.upload_id) == _DIRECT


def _node_of(ref: ObjectRef) -> str:
    """Return the node of an object (rule 14)."""
    return ref.key.rpartition("/")[2]


def _attempt_of(intent: ObjectIntent) -> int:
    """Return the attempt in `direct-{node id}-{attempt}`; 0 for another id."""
    number = intent.upload_id.removeprefix(direct_upload_id(_node_of(intent.object)))
    return int(number[1:]) if number[:1] == "-" and number[1:].isdigit() else 0
