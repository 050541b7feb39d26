"""Nodes of photos whose objects were put straight into the store."""

from __future__ import annotations

import structlog

from sluice_common.telemetry.tracing import current_traceparent
from sluice_core.errors import NotFound
from sluice_core.objects.contents import known_checksums, read_checksums
from sluice_core.objects.marks import is_of_upload, marked_trace
from sluice_core.photos.model import Photo
from sluice_core.ports.catalogue import NodeCommit
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.ids import direct_upload_id
from sluice_core.uploads.model import ObjectRef

_log = structlog.get_logger(__name__)


class PhotoAdopter:
    """Takes notifications of objects (`ObjectCreated`), and makes the nodes of photos.

    For stores whose notifications may be late, lost or switched off. The processor does the same
    for the notifications that it gets: the ids are derived from the node, so both may do it.
    """

    def __init__(self, catalogue: GatewayCatalogue, objects: ObjectStore) -> None:
        self._catalogue = catalogue
        self._objects = objects

    async def __call__(self, ref: ObjectRef, *, happened_at: float) -> None:
        """Make the node of an object, unless it is there or the object is none of a photo.

        Its event leads to the processing. Raise the errors of the store and of the catalogue.
        """
        node_id = ref.key.rpartition("/")[2]
        photo = (await self._catalogue.photos_of_nodes([node_id])).get(node_id)
        if photo is None or photo.object != ref:
            return
        if await self._catalogue.candidates([node_id]):
            return  # before the object is read for its checksum
        try:
            await self._adopt(photo)
        except NotFound as gone:
            if gone.reason not in ("DRIVE_NOT_FOUND", "OBJECT_NOT_FOUND", "BUCKET_NOT_FOUND"):
                raise

    async def _adopt(self, photo: Photo) -> None:
        drive = await self._catalogue.get_drive(photo.owner.tenant, photo.drive)
        info = await self._objects.head(photo.object)
        if info is None or is_of_upload(info.metadata):
            return
        content = known_checksums(info, drive.policy.integrity)
        if content is None:
            content = await read_checksums(self._objects, info)
        outcome = await self._catalogue.adopt_object(
            NodeCommit(
                upload_id=direct_upload_id(photo.node_id),
                node_id=photo.node_id,
                tenant=drive.tenant,
                drive=drive.name,
                path=photo.path,
                size=info.size,
                content_type=info.content_type,
                crc32c=content.crc32c,
                sha256=content.sha256,
                metadata={},
                object=photo.object,
                if_absent=False,
                integrity=drive.policy.integrity,
                trace_parent=marked_trace(info.metadata) or current_traceparent() or "",
            )
        )
        if outcome is not None and outcome.created:
            _log.info("object.adopted", node_id=photo.node_id, photoId=photo.photo_id)
