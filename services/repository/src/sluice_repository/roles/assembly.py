"""Assembly of one object from the stored parts (rules 16, 18)."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from sluice_core.errors import FailedPrecondition, NotFound
from sluice_core.ports import CompletionClaim, StoredPartRecord
from sluice_core.ports.object_store import ObjectInfo, ObjectStore, PartTag
from sluice_core.uploads.model import ObjectRef

_log = structlog.get_logger(__name__)
_MAX_ATTEMPTS = 3
"""A late duplicate UploadPart can make one attempt fail (rule 16); three in a row are a fault of
the store."""


class CompletionRefused(Exception):
    """The upload can never complete and fails with `reason`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class PartsLost(Exception):
    """The object store lacks these parts as the ledger recorded them; they are uploaded again."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__(f"parts {list(numbers)}")
        self.numbers = numbers


async def assemble(
    objects: ObjectStore, claim: CompletionClaim, parts: Sequence[StoredPartRecord]
) -> ObjectInfo:
    """Complete the object, or return the one that an earlier holder completed.

    The caller compares its checksum.

    Raise `CompletionRefused`, `PartsLost`, and what the store raises.
    """
    ref = claim.snapshot.new.object
    if claim.single_put:
        info = await objects.head(ref)
        if info is None:
            raise PartsLost([part.number for part in parts])
        return info
    return await _complete(objects, ref, claim.snapshot.multipart_id, parts)


async def _complete(
    objects: ObjectStore, ref: ObjectRef, multipart_id: str, parts: Sequence[StoredPartRecord]
) -> ObjectInfo:
    tags: Sequence[PartTag] = [PartTag(p.number, p.etag, p.size, p.crc32c) for p in parts]
    for _ in range(_MAX_ATTEMPTS):
        try:
            return await objects.complete_multipart(ref, multipart_id, tags)
        except NotFound as gone:
            if gone.reason != "MULTIPART_NOT_FOUND":
                raise
            return await _completed_before(objects, ref)
        except FailedPrecondition as refused:
            if refused.reason != "INVALID_PART":
                raise
            _log.warning("parts.refused", key=ref.key, error=str(refused))
            tags = reconciled(parts, await objects.list_parts(ref, multipart_id))
    raise CompletionRefused(
        "INVALID_PART",
        "The object store keeps refusing parts that it lists; upload the object again.",
    )


async def _completed_before(objects: ObjectStore, ref: ObjectRef) -> ObjectInfo:
    """Return the object of a multipart that is gone.

    The answer of an earlier call was lost, or the previous holder died after this step.
    """
    info = await objects.head(ref)
    if info is None:
        raise CompletionRefused(
            "MULTIPART_NOT_FOUND",
            "The object store no longer has the parts of this upload; upload the object again.",
        )
    return info


def reconciled(parts: Sequence[StoredPartRecord], listed: Sequence[PartTag]) -> Sequence[PartTag]:
    """Return the store's tags for the ledger's parts (rule 16).

    A tag matches a part of equal size and CRC32C, or equal ETag where the store keeps no CRC32C.
    Some stores list a replaced part beside its successor: any match is valid.

    Raise `PartsLost` with all parts that no tag matches.
    """
    by_number: dict[int, list[PartTag]] = {}
    for tag in listed:
        by_number.setdefault(tag.number, []).append(tag)
    tags: list[PartTag] = []
    lost: list[int] = []
    for part in parts:
        same = [tag for tag in by_number.get(part.number, ()) if _same_bytes(tag, part)]
        if same:
            tags.append(same[-1])
        else:
            lost.append(part.number)
    if lost:
        raise PartsLost(lost)
    return tags


def _same_bytes(tag: PartTag, part: StoredPartRecord) -> bool:
    if tag.size != part.size:
        return False
    if tag.crc32c is None:
        return tag.etag == part.etag
    return tag.crc32c == part.crc32c
