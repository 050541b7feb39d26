"""An object store with injected faults."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from sluice_core.ports.object_store import (
    Body,
    ObjectAttributes,
    ObjectInfo,
    ObjectPage,
    ObjectStore,
    PartTag,
    PresignedPut,
)
from sluice_core.uploads.model import ObjectRef

T = TypeVar("T")


class FaultyObjects:
    """An object store in front of a real one that raises scripted errors.

    `before[name]` and `after[name]` hold errors to raise, one per call of that method: before the
    store is called, or afterwards, so that its answer is lost.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.before: dict[str, list[Exception]] = {}
        self.after: dict[str, list[Exception]] = {}
        self.calls: list[str] = []
        self.on_call: dict[str, Callable[[], Awaitable[None]]] = {}

    async def _through(self, name: str, call: Awaitable[T]) -> T:
        self.calls.append(name)
        try:
            if (hook := self.on_call.get(name)) is not None:
                await hook()
            if self.before.get(name):
                raise self.before[name].pop(0)
        except BaseException:
            call.close()  # type: ignore[attr-defined]
            raise
        result = await call
        if self.after.get(name):
            raise self.after[name].pop(0)
        return result

    async def check(self, bucket: str) -> None:
        await self._through("check", self._store.check(bucket))

    async def put(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        return await self._through("put", self._store.put(ref, body, attributes))

    async def open_multipart(
        self, ref: ObjectRef, attributes: ObjectAttributes, *, by_clients: bool = False
    ) -> str:
        return await self._through(
            "open_multipart", self._store.open_multipart(ref, attributes, by_clients=by_clients)
        )

    async def put_part(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        return await self._through(
            "put_part", self._store.put_part(ref, multipart_id, number, body)
        )

    async def list_parts(self, ref: ObjectRef, multipart_id: str) -> Sequence[PartTag]:
        return await self._through("list_parts", self._store.list_parts(ref, multipart_id))

    async def open_multiparts(self, ref: ObjectRef) -> Sequence[str]:
        return await self._through("open_multiparts", self._store.open_multiparts(ref))

    async def complete_multipart(
        self,
        ref: ObjectRef,
        multipart_id: str,
        parts: Sequence[PartTag],
        *,
        by_clients: bool = False,
    ) -> ObjectInfo:
        return await self._through(
            "complete_multipart",
            self._store.complete_multipart(ref, multipart_id, parts, by_clients=by_clients),
        )

    async def abort_multipart(self, ref: ObjectRef, multipart_id: str) -> None:
        await self._through("abort_multipart", self._store.abort_multipart(ref, multipart_id))

    def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        self.calls.append("read")
        return self._store.read(ref, offset, length)

    async def head(self, ref: ObjectRef) -> ObjectInfo | None:
        return await self._through("head", self._store.head(ref))

    async def list_objects(self, bucket: str, prefix: str, limit: int, after: str) -> ObjectPage:
        call = self._store.list_objects(bucket, prefix, limit, after)
        return await self._through("list_objects", call)

    async def delete(self, ref: ObjectRef) -> None:
        await self._through("delete", self._store.delete(ref))

    async def presign_get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        return await self._store.presign_get(ref, lifetime_seconds, filename)

    async def presign_put(
        self,
        ref: ObjectRef,
        lifetime_seconds: int,
        size: int,
        attributes: ObjectAttributes,
        *,
        crc32c: int | None = None,
    ) -> PresignedPut:
        return await self._store.presign_put(ref, lifetime_seconds, size, attributes, crc32c=crc32c)

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
        return await self._store.presign_part(
            ref, multipart_id, number, lifetime_seconds, size, crc32c=crc32c
        )
