"""Adoption of objects that a client put straight into the store, without an upload."""

from __future__ import annotations

import uuid
from enum import StrEnum

import structlog

from sluice_common.telemetry.tracing import current_traceparent
from sluice_core.errors import InvalidArgument
from sluice_core.objects.contents import Checksums, known_checksums, read_checksums
from sluice_core.objects.marks import is_of_upload, marked_path, marked_trace
from sluice_core.ports.catalogue import Drive, NodeCommit
from sluice_core.ports.object_store import ObjectInfo
from sluice_core.uploads.ids import direct_upload_id
from sluice_core.uploads.names import check_content_type
from sluice_processor.deps import ProcessorDeps
from sluice_processor.nodes.keys import Place
from sluice_processor.nodes.stages import Stage, staged

_log = structlog.get_logger(__name__)


class Adoption(StrEnum):
    """Outcome for an object without a node."""

    ADOPTED = "ADOPTED"
    """Its node was created, with an UploadCompleted event."""
    KNOWN = "KNOWN"
    """Another process has just created its node, or it had one that ended (deleted, superseded)."""
    ANNOUNCED = "ANNOUNCED"
    """It belongs to an upload, which creates its node on completion."""
    GONE = "GONE"
    """The object no longer exists."""
    NO_DRIVE = "NO_DRIVE"
    """No drive stores its objects there."""
    BAD_NODE_ID = "BAD_NODE_ID"
    """The id was not issued by Sluice."""


class Adopter:
    """Creates nodes for objects that no upload announced.

    The key of an object names its drive and node, its metadata the path (`marks.py`). Several
    processes may adopt an object at once: the node id makes the node unique, and all event ids
    are derived from it.
    """

    def __init__(self, deps: ProcessorDeps) -> None:
        self._deps = deps

    async def adopt(self, place: Place) -> Adoption:
        """Create the node of an object, unless the object is foreign or belongs to an upload.

        Idempotent. Raise `InvalidArgument` BAD_PATH for an invalid path, and what the store and
        the catalogue raise.
        """
        if not _is_uuid(place.node_id):
            return Adoption.BAD_NODE_ID
        drive = await self._drive_of(place)
        if drive is None:
            return Adoption.NO_DRIVE
        info = await self._deps.objects.head(place.ref)
        if info is None:
            return Adoption.GONE
        if is_of_upload(info.metadata):
            return Adoption.ANNOUNCED
        path = marked_path(info.metadata) or place.node_id
        content = await self._content(info, drive)
        upload_id = direct_upload_id(place.node_id)
        outcome = await self._deps.catalogue.adopt_object(
            NodeCommit(
                upload_id=upload_id,
                node_id=place.node_id,
                tenant=drive.tenant,
                drive=drive.name,
                path=path,
                size=info.size,
                content_type=_content_type(info),
                crc32c=content.crc32c,
                sha256=content.sha256,
                metadata={},
                object=place.ref,
                if_absent=False,
                integrity=drive.policy.integrity,
                trace_parent=marked_trace(info.metadata) or current_traceparent() or "",
            )
        )
        if outcome is None:
            return Adoption.ANNOUNCED
        if not outcome.created:
            return Adoption.KNOWN
        self._deps.metrics.adopted.inc()
        _log.info("object.adopted", node_id=place.node_id, drive=drive.name, size=info.size)
        return Adoption.ADOPTED

    async def _drive_of(self, place: Place) -> Drive | None:
        """Return the drive that stores its objects there, if exactly one does.

        Two may if their prefixes do not end in a slash; the owner is ambiguous then.
        """
        named = await self._deps.catalogue.drives_named(place.drive, place.tenants)
        bucket = self._deps.options.bucket
        found = [drive for drive in named if place.is_in(drive, bucket)]
        return found[0] if len(found) == 1 else None

    async def _content(self, info: ObjectInfo, drive: Drive) -> Checksums:
        """Return the checksums that the store has, else those of the bytes read from it."""
        known = known_checksums(info, drive.policy.integrity)
        if known is not None:
            return known
        with staged(self._deps.metrics, Stage.READ):
            return await read_checksums(self._deps.objects, info)


def _is_uuid(node_id: str) -> bool:
    """Return whether the id has the form that `new_node_id` issues."""
    try:
        return str(uuid.UUID(node_id)) == node_id
    except ValueError:
        return False


def _content_type(info: ObjectInfo) -> str:
    """Return the declared type if it is valid; the type that counts is detected from the bytes."""
    try:
        return check_content_type(info.content_type)
    except InvalidArgument:
        return ""
