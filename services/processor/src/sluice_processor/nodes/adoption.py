"""Nodes of objects that no upload announced: a client put them straight into the store.

What makes a node of such an object is in the object itself: its key says which drive and which
node, its metadata which path (see `marks.py`). Any number of processes may notice it at once: the
node id decides that there is one node, and all ids of events follow from it.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from dataclasses import dataclass
from enum import StrEnum

import structlog

from sluice_common.telemetry.tracing import current_traceparent
from sluice_core.errors import Aborted, InvalidArgument
from sluice_core.objects.body import closing
from sluice_core.objects.marks import is_of_upload, marked_path
from sluice_core.ports.catalogue import Drive, NodeCommit
from sluice_core.ports.object_store import ObjectInfo
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.ids import direct_upload_id
from sluice_core.uploads.model import Integrity
from sluice_core.uploads.names import check_content_type
from sluice_processor.deps import ProcessorDeps
from sluice_processor.nodes.keys import Place
from sluice_processor.nodes.stages import Stage, staged

_log = structlog.get_logger(__name__)


class Adoption(StrEnum):
    """What became of an object without a node."""

    ADOPTED = "ADOPTED"
    """There is a node for it now, and an UploadCompleted that says so."""
    KNOWN = "KNOWN"
    """Somebody else has just made its node, or it had one that ended."""
    ANNOUNCED = "ANNOUNCED"
    """An upload brought it, and makes its node when it ends."""
    GONE = "GONE"
    """It is not there any more."""
    NO_DRIVE = "NO_DRIVE"
    """No drive keeps its objects there."""
    BAD_NODE_ID = "BAD_NODE_ID"
    """Sluice gave out no such id."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What the bytes of an object come to; the SHA-256 is known when they were read."""

    crc32c: int
    sha256: bytes | None


class Adopter:
    """Makes nodes of objects."""

    def __init__(self, deps: ProcessorDeps) -> None:
        self._deps = deps

    async def adopt(self, place: Place) -> Adoption:
        """Make the node of an object, unless it is none of ours or an upload's.

        Idempotent. Raises `InvalidArgument` BAD_PATH for a path that can be none, and what store
        and catalogue raise.
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
                trace_parent=current_traceparent() or "",
            )
        )
        if outcome is None:
            return Adoption.ANNOUNCED
        if not outcome.created:
            return Adoption.KNOWN
        self._deps.metrics.processor_adopted.inc()
        _log.info("object_adopted", node_id=place.node_id, drive=drive.name, size=info.size)
        return Adoption.ADOPTED

    async def _drive_of(self, place: Place) -> Drive | None:
        """The one drive whose objects lie there. Two may, with prefixes that do not end in a
        slash: then nobody can tell."""
        named = await self._deps.catalogue.drives_named(place.drive, place.tenants)
        bucket = self._deps.options.bucket
        found = [drive for drive in named if place.is_in(drive, bucket)]
        return found[0] if len(found) == 1 else None

    async def _content(self, info: ObjectInfo, drive: Drive) -> _Content:
        """The checksums of the object: those that the store tells, or else of what it holds."""
        first = drive.policy.integrity is Integrity.SHA256_BEFORE_VISIBLE
        if info.crc32c is not None and not first:
            return _Content(info.crc32c, None)
        with staged(self._deps.metrics, Stage.READ):
            content, size = await self._read(info)
        again = await self._deps.objects.head(info.ref)
        differs = info.crc32c not in (None, content.crc32c) or size != info.size
        if again is None or again.etag != info.etag or differs:
            raise Aborted(
                "OBJECT_CHANGED", "The object was replaced while it was read; look again."
            )
        return content

    async def _read(self, info: ObjectInfo) -> tuple[_Content, int]:
        sha256, crc, size = hashlib.sha256(), EMPTY_CRC32C, 0
        async with closing(self._deps.objects.read(info.ref, 0, info.size)) as blocks:
            async for block in blocks:
                await asyncio.to_thread(sha256.update, block)
                crc = crc32c(block, crc)
                size += len(block)
        return _Content(crc, sha256.digest()), size


def _is_uuid(node_id: str) -> bool:
    """Whether this is an id as `new_node_id` makes them."""
    try:
        return str(uuid.UUID(node_id)) == node_id
    except ValueError:
        return False


def _content_type(info: ObjectInfo) -> str:
    """What was declared, if it is a type at all; the processor looks at the bytes anyway."""
    try:
        return check_content_type(info.content_type)
    except InvalidArgument:
        return ""
