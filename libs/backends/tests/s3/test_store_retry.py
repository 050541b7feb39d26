"""Tests of the retry of object store calls."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sluice_backends.discard.objects import DiscardObjectStore
from sluice_backends.s3.options import RetryOptions
from sluice_backends.s3.retry import RetryingObjectStore
from sluice_core.errors import DataLoss, NotFound, SluiceError, Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import Body, ObjectAttributes, ObjectInfo
from sluice_core.uploads.model import MIB, ObjectRef

REF = ObjectRef("sluice", "a/b")
PLAIN = ObjectAttributes()
QUICK = RetryOptions(attempts=4, total_seconds=5, wait_initial_seconds=0.001, wait_max_seconds=0.01)
DOWN = Unavailable("STORE_UNAVAILABLE", "Down.")


class Flaky(DiscardObjectStore):
    """Store that raises the given errors in order and then works."""

    def __init__(self, *errors: SluiceError) -> None:
        super().__init__()
        self.errors = list(errors)
        self.calls = 0

    async def put(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        self.calls += 1
        info = await super().put(ref, body, attributes)
        self._fail()
        return info

    async def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        self.calls += 1
        self._fail()
        yield b"first"
        self._fail()
        yield b"second"

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


async def test_retry_sends_body_from_beginning() -> None:
    store = Flaky(DOWN, DOWN)
    data = b"x" * 2 * MIB
    info = await RetryingObjectStore(store, QUICK).put(REF, BytesBody(data), PLAIN)
    assert (info.size, store.calls) == (len(data), 3)


async def test_exhausted_retries_raise_last_error() -> None:
    store = Flaky(*[DOWN] * 10)
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await RetryingObjectStore(store, QUICK).put(REF, BytesBody(b"x"), PLAIN)
    assert store.calls == 4


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("STORE_CIRCUIT_OPEN", "Open."),
        NotFound("BUCKET_NOT_FOUND", "None."),
        DataLoss("CHECKSUM_MISMATCH", "Other."),
    ],
)
async def test_permanent_errors_are_not_retried(error: SluiceError) -> None:
    store = Flaky(error)
    with pytest.raises(type(error), match=error.reason):
        await RetryingObjectStore(store, QUICK).put(REF, BytesBody(b"x"), PLAIN)
    assert store.calls == 1


async def test_unavailable_source_is_not_retried() -> None:
    """The source has its own retry; nested retries multiply."""
    source_error = Unavailable("REDIS_UNAVAILABLE", "Down.")

    class UnavailableSource(BytesBody):
        async def blocks(self) -> AsyncIterator[bytes]:
            yield b"x"
            raise source_error

    store = Flaky()
    with pytest.raises(Unavailable) as caught:
        await RetryingObjectStore(store, QUICK).put(REF, UnavailableSource(b"xy"), PLAIN)
    assert caught.value is source_error
    assert store.calls == 1


async def test_read_is_retried_until_first_block() -> None:
    store = Flaky(DOWN, DOWN)
    blocks = [block async for block in RetryingObjectStore(store, QUICK).read(REF, 0, 11)]
    assert (blocks, store.calls) == ([b"first", b"second"], 3)


async def test_interrupted_read_raises_error() -> None:
    store = Flaky()
    blocks = RetryingObjectStore(store, QUICK).read(REF, 0, 11)
    assert await anext(blocks) == b"first"
    store.errors.append(DOWN)
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await anext(blocks)
    assert store.calls == 1
