"""Object store port: S3's model, reduced to the calls in use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sluice_core.uploads.model import ObjectRef


class Body(Protocol):
    """Bytes to store, with size and CRC32C known in advance.

    `blocks()` starts from the beginning at each call, so that a store can retry. Its errors
    propagate through the store's call unchanged.
    """

    @property
    def size(self) -> int: ...

    @property
    def crc32c(self) -> int: ...

    def blocks(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class ObjectAttributes:
    """Attributes stored with an object."""

    content_type: str = "application/octet-stream"
    storage_class: str = ""
    encryption: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Names in lower case, values in ASCII, at most 2 KB together (S3's limit); see `marks.py`."""


@dataclass(frozen=True, slots=True)
class PartTag:
    """Stored part as identified by the store."""

    number: int
    etag: str
    size: int
    crc32c: int | None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Description of a stored object. `crc32c` is of the whole object, None if not stored.

    `head` sets `content_type` and `metadata`, where the store keeps them.
    """

    ref: ObjectRef
    size: int
    etag: str
    crc32c: int | None
    content_type: str = field(default="", compare=False)
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class PresignedPut:
    """Presigned PUT of an object or a part.

    `headers` are signed and have to be sent unchanged. Content-Length is signed too, but it is not
    among them: HTTP clients set it to the size of the body, and browsers allow nobody else to.
    """

    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ListedObject:
    ref: ObjectRef
    size: int


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """Objects of a listing; `next_after` is empty on the last page only."""

    objects: tuple[ListedObject, ...]
    next_after: str
    unreadable: tuple[str, ...] = ()
    """Places in the store of objects whose own description is damaged, and so their key unknown."""


class ObjectStore(Protocol):
    """Durable bytes by key. Writes are atomic: an object appears completely or not at all.

    All errors are of `sluice_core.errors`, so that callers import no vendor's errors:
        NotFound: OBJECT_NOT_FOUND, BUCKET_NOT_FOUND, MULTIPART_NOT_FOUND (S3: NoSuchUpload).
        FailedPrecondition: INVALID_PART (S3: InvalidPart, InvalidPartOrder), PART_TOO_SMALL,
            STORE_REFUSED.
        DataLoss: CHECKSUM_MISMATCH (the store received other bytes than claimed).
        PermissionDenied: STORE_DENIED.
        Unavailable: STORE_UNAVAILABLE (retry), STORE_CIRCUIT_OPEN (retry later).
        ResourceExhausted: STORE_READS (too many concurrent reads).
        InvalidArgument: BAD_KEY, BAD_ENCRYPTION, BAD_STORAGE_CLASS.
        Unimplemented: PRESIGN_UNSUPPORTED, STORE_LACKS_CALL.
    """

    async def check(self, bucket: str) -> None:
        """Raise when the bucket is unusable; a store that manages its buckets creates it."""
        ...

    async def put(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        """Store or replace an object in one step; verify size and CRC32C."""
        ...

    async def open_multipart(
        self, ref: ObjectRef, attributes: ObjectAttributes, *, by_clients: bool = False
    ) -> str:
        """Start a multipart and return its id.

        Args:
            by_clients: its parts are put by `presign_part`, each with a CRC32C or without one;
                `complete_multipart` gets the same.
        """
        ...

    async def put_part(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        """Store or replace part `number` (1 … 10,000); verify size and CRC32C."""
        ...

    async def list_parts(self, ref: ObjectRef, multipart_id: str) -> Sequence[PartTag]:
        """Return the stored parts in order."""
        ...

    async def open_multiparts(self, ref: ObjectRef) -> Sequence[str]:
        """Return the ids of the multiparts open under exactly this key; empty if unsupported.

        For clean-up: the id of a multipart whose response was lost is recorded nowhere else
        (rule 13).
        """
        ...

    async def complete_multipart(
        self,
        ref: ObjectRef,
        multipart_id: str,
        parts: Sequence[PartTag],
        *,
        by_clients: bool = False,
    ) -> ObjectInfo:
        """Assemble the object from exactly these parts in this order.

        A repeat after success returns the same, or raises MULTIPART_NOT_FOUND. Call `head` then to
        see whether the object exists.
        """
        ...

    async def abort_multipart(self, ref: ObjectRef, multipart_id: str) -> None:
        """Delete a multipart; an unknown one is ignored."""
        ...

    def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        """Yield `length` bytes from `offset`, or up to the end, in blocks of at most 1 MiB."""
        ...

    async def head(self, ref: ObjectRef) -> ObjectInfo | None:
        """Return the object's description; None if it does not exist."""
        ...

    async def list_objects(self, bucket: str, prefix: str, limit: int, after: str) -> ObjectPage:
        """Return objects whose keys have the prefix, from the cursor `after` of the page before.

        For operators. The order is the store's own, and a page may be short or empty although
        another one follows.
        """
        ...

    async def delete(self, ref: ObjectRef) -> None:
        """Delete the object; an unknown one is ignored."""
        ...

    async def presign_get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        """Return a URL that lets its holder read the object until it expires."""
        ...

    async def presign_put(
        self,
        ref: ObjectRef,
        lifetime_seconds: int,
        size: int,
        attributes: ObjectAttributes,
        *,
        crc32c: int | None = None,
    ) -> PresignedPut:
        """Return a request that lets its holder put the object until it expires, with exactly this
        size, these attributes and, if given, this CRC32C.

        It makes an object and replaces none: where one is there, S3 answers 412, and a store in
        files 200 to the same bytes and 409 to others. An S3 store that does not know the
        condition replaces it.

        Raise `InvalidArgument` BAD_CONTENT_TYPE, BAD_METADATA.
        """
        ...

    async def presign_part(
        self,
        ref: ObjectRef,
        multipart_id: str,
        number: int,
        lifetime_seconds: int,
        size: int,
        *,
        crc32c: int | None = None,
    ) -> PresignedPut:
        """Return a request that lets its holder put part `number` until it expires, with exactly
        this size and, if given and the store verifies it, this CRC32C.

        Sends no request: an unknown multipart shows when the part is put. Raise `InvalidArgument`
        BAD_PART_NUMBER, `NotFound` MULTIPART_NOT_FOUND for an id that no store issues.
        """
        ...
