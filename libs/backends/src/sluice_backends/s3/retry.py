"""Retry of object store calls; the only layer that retries them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import stamina

from sluice_backends.s3.breaker import CIRCUIT_OPEN
from sluice_backends.s3.options import RetryOptions
from sluice_core.errors import Unavailable
from sluice_core.objects.body import closing
from sluice_core.ports.object_store import (
    Body,
    ObjectAttributes,
    ObjectInfo,
    ObjectStore,
    PartTag,
    PresignedPut,
)
from sluice_core.uploads.model import ObjectRef

T = TypeVar("T")


class RetryingObjectStore:
    """An `ObjectStore` that retries calls that failed with `Unavailable`.

    STORE_CIRCUIT_OPEN is not retried, because an early retry is useless. A read is retried until
    its first block; later the reader knows better where to resume.

    Every call of the port is safe to retry. A put replaces the result of an earlier attempt, and
    each attempt reads the body from its beginning. A retry of `complete_multipart` may raise
    MULTIPART_NOT_FOUND when only the response of the first attempt was lost. The completer checks
    with `head` anyway, because an earlier completer may have died at this point (rule 18).
    """

    def __init__(self, store: ObjectStore, options: RetryOptions | None = None) -> None:
        options = options or RetryOptions()
        self._store = store
        self._call = stamina.AsyncRetryingCaller(
            attempts=options.attempts,
            timeout=options.total_seconds,
            wait_initial=options.wait_initial_seconds,
            wait_max=options.wait_max_seconds,
            wait_jitter=options.wait_initial_seconds,
        ).on(_retry_decision)

    async def check(self, bucket: str) -> None:
        await self._call(self._store.check, bucket)

    async def put(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        return await self._send(body, lambda sent: self._store.put(ref, sent, attributes))

    async def open_multipart(self, ref: ObjectRef, attributes: ObjectAttributes) -> str:
        return await self._call(self._store.open_multipart, ref, attributes)

    async def put_part(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        return await self._send(
            body, lambda sent: self._store.put_part(ref, multipart_id, number, sent)
        )

    async def list_parts(self, ref: ObjectRef, multipart_id: str) -> Sequence[PartTag]:
        return await self._call(self._store.list_parts, ref, multipart_id)

    async def open_multiparts(self, ref: ObjectRef) -> Sequence[str]:
        return await self._call(self._store.open_multiparts, ref)

    async def complete_multipart(
        self, ref: ObjectRef, multipart_id: str, parts: Sequence[PartTag]
    ) -> ObjectInfo:
        return await self._call(self._store.complete_multipart, ref, multipart_id, parts)

    async def abort_multipart(self, ref: ObjectRef, multipart_id: str) -> None:
        await self._call(self._store.abort_multipart, ref, multipart_id)

    async def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        blocks, first = await self._call(self._read_first, ref, offset, length)
        async with closing(blocks):
            if first is None:
                return
            yield first
            async for block in blocks:
                yield block

    async def head(self, ref: ObjectRef) -> ObjectInfo | None:
        return await self._call(self._store.head, ref)

    async def delete(self, ref: ObjectRef) -> None:
        await self._call(self._store.delete, ref)

    async def presign_get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        return await self._store.presign_get(ref, lifetime_seconds, filename)

    async def presign_put(
        self, ref: ObjectRef, lifetime_seconds: int, size: int, attributes: ObjectAttributes
    ) -> PresignedPut:
        return await self._store.presign_put(ref, lifetime_seconds, size, attributes)

    async def _send(self, body: Body, send: Callable[[Body], Awaitable[T]]) -> T:
        """Retry unless the body's source is unavailable: the source has its own retry."""

        async def attempt() -> T:
            sent = _RecordingBody(body)
            try:
                return await send(sent)
            except Unavailable as error:
                if error is sent.failure:
                    raise _SourceUnavailable(error) from error
                raise

        try:
            return await self._call(attempt)
        except _SourceUnavailable as wrapper:
            raise wrapper.error from wrapper.error.__cause__

    async def _read_first(
        self, ref: ObjectRef, offset: int, length: int
    ) -> tuple[AsyncIterator[bytes], bytes | None]:
        blocks = self._store.read(ref, offset, length)
        try:
            return blocks, await anext(blocks, None)
        except BaseException:
            async with closing(blocks):
                raise


class _SourceUnavailable(Exception):
    """Wrapper that carries an error of the body's source past the retry."""

    def __init__(self, error: Unavailable) -> None:
        super().__init__()
        self.error = error


class _RecordingBody:
    """A body that records the error of its source."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.failure: BaseException | None = None

    @property
    def size(self) -> int:
        return self._body.size

    @property
    def crc32c(self) -> int:
        return self._body.crc32c

    async def blocks(self) -> AsyncIterator[bytes]:
        async with closing(self._body.blocks()) as blocks:
            while True:
                try:
                    block = await anext(blocks, None)
                except Exception as failure:
                    self.failure = failure
                    raise
                if block is None:
                    return
                yield block


def _retry_decision(error: Exception) -> bool | float:
    """Return whether to retry, or the minimum delay in seconds if the store specified one."""
    if not isinstance(error, Unavailable) or error.reason == CIRCUIT_OPEN:
        return False
    return True if error.retry_after_seconds is None else error.retry_after_seconds
