"""Conversions between values of the port and S3 parameters and responses. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sluice_backends.s3.checksums import decode_crc32c, encode_crc32c
from sluice_core.objects.keys import check_key
from sluice_core.objects.parts import multipart_not_found
from sluice_core.ports.object_store import ObjectInfo, PartTag
from sluice_core.uploads.checksums import combined_crc32c
from sluice_core.uploads.model import ObjectRef

Response = Mapping[str, Any]


def to_object(ref: ObjectRef) -> dict[str, Any]:
    """Return the parameters that name an object. Raises `InvalidArgument` BAD_KEY."""
    check_key(ref.key)
    return {"Bucket": ref.bucket, "Key": ref.key}


def to_multipart(ref: ObjectRef, multipart_id: str) -> dict[str, Any]:
    """Return the parameters that name a multipart upload.

    Raises `NotFound` MULTIPART_NOT_FOUND for an id that no store issues: with an empty id, the
    request would address the whole object.
    """
    if not {"", ".", ".."}.isdisjoint(multipart_id.split("/")):
        raise multipart_not_found()
    return {**to_object(ref), "UploadId": multipart_id}


def to_listed_part(tag: PartTag, *, with_crc32c: bool) -> dict[str, Any]:
    """Return a part for the list of CompleteMultipartUpload."""
    part: dict[str, Any] = {"PartNumber": tag.number, "ETag": f'"{tag.etag}"'}
    if with_crc32c and tag.crc32c is not None:
        part["ChecksumCRC32C"] = encode_crc32c(tag.crc32c)
    return part


def to_tag(part: Response) -> PartTag:
    """Return the tag of a part listed by ListParts."""
    stored = decode_crc32c(part.get("ChecksumCRC32C"))
    return PartTag(
        int(part["PartNumber"]),
        to_etag(part),
        int(part["Size"]),
        None if stored is None else stored.crc32c,
    )


def to_etag(response: Response) -> str:
    return str(response["ETag"]).strip('"')


def expected_object(ref: ObjectRef, etag: str, parts: Sequence[PartTag]) -> ObjectInfo:
    """Return the object assembled from these parts; its CRC32C is None when one of theirs is."""
    crcs = [(tag.crc32c, tag.size) for tag in parts if tag.crc32c is not None]
    crc = combined_crc32c(crcs) if len(crcs) == len(parts) else None
    return ObjectInfo(ref, sum(tag.size for tag in parts), etag, crc)
