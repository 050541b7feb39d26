"""Object store that verifies and discards bytes, for measuring uploads without a store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence

from sluice_core.objects.body import verified
from sluice_core.objects.parts import (
    Part,
    check_part_number,
    choose_parts,
    make_etag,
    multipart_not_found,
    object_not_found,
    presign_unsupported,
    size_and_crc32c,
)
from sluice_core.ports.object_store import (
    Body,
    ListedObject,
    ObjectAttributes,
    ObjectInfo,
    ObjectPage,
    PartTag,
    PresignedPut,
)
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import MIN_PART_BYTES, ObjectRef

_Multipart = tuple[ObjectRef, dict[int, Part]]


class DiscardObjectStore:
    """`ObjectStore` that keeps only the descriptions for `head` and `list_parts`, no bytes.

    `read` raises `NotFound` OBJECT_NOT_FOUND. Any bucket is valid.

    Args:
        max_objects: objects, and multiparts, to remember; the oldest are evicted first.
    """

    def __init__(self, *, max_objects: int = 100_000, min_part_bytes: int = MIN_PART_BYTES) -> None:
        self._max_objects = max_objects
        self._min_part_bytes = min_part_bytes
        self._objects: OrderedDict[ObjectRef, ObjectInfo] = OrderedDict()
        self._multiparts: OrderedDict[str, _Multipart] = OrderedDict()

    async def check(self, bucket: str) -> None:
        """No-op: any bucket is valid."""

    async def put(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        async for _ in verified(body):
            pass
        return self._keep(ref, body.size, body.crc32c)

    async def open_multipart(
        self, ref: ObjectRef, attributes: ObjectAttributes, *, by_clients: bool = False
    ) -> str:
        multipart_id = new_token()
        self._multiparts[multipart_id] = (ref, {})
        if len(self._multiparts) > self._max_objects:
            self._multiparts.popitem(last=False)
        return multipart_id

    async def put_part(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        check_part_number(number)
        self._parts(ref, multipart_id)
        async for _ in verified(body):
            pass
        # Check again: it may have been aborted while the bytes arrived.
        part = Part.new(number, body.size, body.crc32c)
        self._parts(ref, multipart_id)[number] = part
        return part.tag

    async def list_parts(self, ref: ObjectRef, multipart_id: str) -> Sequence[PartTag]:
        return [part.tag for _, part in sorted(self._parts(ref, multipart_id).items())]

    async def open_multiparts(self, ref: ObjectRef) -> Sequence[str]:
        return [id_ for id_, (owner, _) in self._multiparts.items() if owner == ref]

    async def complete_multipart(
        self,
        ref: ObjectRef,
        multipart_id: str,
        parts: Sequence[PartTag],
        *,
        by_clients: bool = False,
    ) -> ObjectInfo:
        stored = {(p.number, p.etag): p for p in self._parts(ref, multipart_id).values()}
        size, crc32c = size_and_crc32c(choose_parts(parts, stored, self._min_part_bytes))
        del self._multiparts[multipart_id]
        return self._keep(ref, size, crc32c)

    async def abort_multipart(self, ref: ObjectRef, multipart_id: str) -> None:
        if self._multiparts.get(multipart_id, (None,))[0] == ref:
            del self._multiparts[multipart_id]

    async def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        no_blocks: tuple[bytes, ...] = ()
        for block in no_blocks:  # makes this an asynchronous generator
            yield block
        raise object_not_found()

    async def head(self, ref: ObjectRef) -> ObjectInfo | None:
        return self._objects.get(ref)

    async def list_objects(self, bucket: str, prefix: str, limit: int, after: str) -> ObjectPage:
        keys = sorted(
            ref.key
            for ref in self._objects
            if ref.bucket == bucket and ref.key.startswith(prefix) and ref.key > after
        )
        page = tuple(
            ListedObject(ObjectRef(bucket, key), self._objects[ObjectRef(bucket, key)].size)
            for key in keys[:limit]
        )
        return ObjectPage(page, page[-1].ref.key if len(keys) > limit else "")

    async def delete(self, ref: ObjectRef) -> None:
        self._objects.pop(ref, None)

    async def presign_get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        raise presign_unsupported()

    async def presign_put(
        self,
        ref: ObjectRef,
        lifetime_seconds: int,
        size: int,
        attributes: ObjectAttributes,
        *,
        crc32c: int | None = None,
    ) -> PresignedPut:
        raise presign_unsupported()

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
        raise presign_unsupported()

    def _parts(self, ref: ObjectRef, multipart_id: str) -> dict[int, Part]:
        multipart = self._multiparts.get(multipart_id)
        if multipart is None or multipart[0] != ref:
            raise multipart_not_found()
        return multipart[1]

    def _keep(self, ref: ObjectRef, size: int, crc32c: int) -> ObjectInfo:
        info = ObjectInfo(ref, size, make_etag(size, crc32c, new_token()), crc32c)
        self._objects[ref] = info
        self._objects.move_to_end(ref)
        if len(self._objects) > self._max_objects:
            self._objects.popitem(last=False)
        return info
