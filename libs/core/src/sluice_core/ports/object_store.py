"""The object store port: S3's model, narrowed to the calls in use.

Errors (all of `sluice_core.errors`, so that nobody above imports a vendor's):
    NotFound OBJECT_NOT_FOUND, BUCKET_NOT_FOUND, MULTIPART_NOT_FOUND (S3: NoSuchUpload)
    FailedPrecondition INVALID_PART (S3: InvalidPart, InvalidPartOrder), PART_TOO_SMALL
    DataLoss CHECKSUM_MISMATCH (the store saw other bytes than we claimed)
    PermissionDenied STORE_DENIED
    Unavailable STORE_UNAVAILABLE (worth repeating), STORE_CIRCUIT_OPEN (after a while)
    ResourceExhausted STORE_READS (too many readers at once)
    InvalidArgument BAD_KEY, BAD_ENCRYPTION, BAD_STORAGE_CLASS; FailedPrecondition STORE_REFUSED
    Unimplemented PRESIGN_UNSUPPORTED, STORE_LACKS_CALL
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sluice_core.uploads.model import ObjectRef


class Body(Protocol):
    """Bytes to store, with what is known of them beforehand.

    `blocks()` starts from the beginning each time, so that a store can retry. What it raises comes
    out of the store's call unchanged.
    """

    @property
    def size(self) -> int: ...

    @property
    def crc32c(self) -> int: ...

    def blocks(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class ObjectAttributes:
    """What the store keeps beside the bytes."""

    content_type: str = "application/octet-stream"
    storage_class: str = ""
    encryption: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Names in lower case, values in ASCII, all of it at most 2 KB (S3's limit); see `marks.py`.
    Only S3 keeps it: nobody but us puts anything into the others."""


@dataclass(frozen=True, slots=True)
class PartTag:
    """A stored part as the store names it."""

    number: int
    etag: str
    size: int
    crc32c: int | None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says about an object. `crc32c` is of the whole object, None if not kept.

    `content_type` and `metadata` are filled in by `head`, where the store keeps them.
    """

    ref: ObjectRef
    size: int
    etag: str
    crc32c: int | None
    content_type: str = field(default="", compare=False)
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class PresignedPut:
    """Permission to put one object: `headers` are signed, and are sent exactly like that."""

    url: str
    headers: Mapping[str, str]


class ObjectStore(Protocol):
    """Durable bytes by key. Objects appear whole or not at all."""

    async def check(self, bucket: str) -> None:
        """Raise when the bucket cannot be used; a store that makes buckets itself makes it."""
        ...

    async def put(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        """Store an object in one step, replacing what was there. Verifies size and CRC32C."""
        ...

    async def open_multipart(self, ref: ObjectRef, attributes: ObjectAttributes) -> str:
        """Begin an object in parts; returns the store's id of it."""
        ...

    async def put_part(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        """Store part `number` (1 … 10,000), replacing it. Verifies size and CRC32C."""
        ...

    async def list_parts(self, ref: ObjectRef, multipart_id: str) -> Sequence[PartTag]:
        """The stored parts, in order."""
        ...

    async def open_multiparts(self, ref: ObjectRef) -> Sequence[str]:
        """The ids of multiparts open under exactly this key, for clean-up: one whose answer was
        lost is known to nobody else (rule 13). Empty where the store cannot list them."""
        ...

    async def complete_multipart(
        self, ref: ObjectRef, multipart_id: str, parts: Sequence[PartTag]
    ) -> ObjectInfo:
        """Make the object of exactly these parts, in this order. A repeat after success answers the
        same, or raises MULTIPART_NOT_FOUND: then `head` tells whether it was done."""
        ...

    async def abort_multipart(self, ref: ObjectRef, multipart_id: str) -> None:
        """Forget an object in parts; an unknown one is no error."""
        ...

    def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        """`length` bytes from `offset` in blocks of at most 1 MiB; fewer at the end of the
        object."""
        ...

    async def head(self, ref: ObjectRef) -> ObjectInfo | None:
        """What is there, or None."""
        ...

    async def delete(self, ref: ObjectRef) -> None:
        """Remove the object; an unknown one is no error."""
        ...

    async def presign_get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        """A URL by which anyone can read the object until it ends."""
        ...

    async def presign_put(
        self, ref: ObjectRef, lifetime_seconds: int, size: int, attributes: ObjectAttributes
    ) -> PresignedPut:
        """Lets anyone put the object until it ends: these many bytes, with these attributes, and
        nothing else."""
        ...
