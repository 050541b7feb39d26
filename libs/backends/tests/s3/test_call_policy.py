"""Tests of the policy of object store calls: retry, and the calls of S3 that follow it."""

from __future__ import annotations

import inspect
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import SecretStr

from sluice_backends.discard.objects import DiscardObjectStore
from sluice_backends.s3.breaker import Breaker, BreakerState
from sluice_backends.s3.metrics import S3Metrics
from sluice_backends.s3.options import BreakerOptions, RetryOptions, S3Options
from sluice_backends.s3.policy import CallPolicy, guarded
from sluice_backends.s3.store import open_s3_store
from sluice_core.errors import DataLoss, NotFound, SluiceError, Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import (
    Body,
    ObjectAttributes,
    ObjectInfo,
    ObjectStore,
    PartTag,
)
from sluice_core.uploads.model import MIB, ObjectRef

REF = ObjectRef("sluice", "a/b")
PLAIN = ObjectAttributes()
QUICK = RetryOptions(attempts=4, total_seconds=5, wait_initial_seconds=0.001, wait_max_seconds=0.01)
NEVER = BreakerOptions(window=1000, min_calls=1000)
DOWN = Unavailable("STORE_UNAVAILABLE", "Down.")


class Flaky(DiscardObjectStore):
    """Store that raises the given errors in order and then works."""

    def __init__(self, *errors: SluiceError, breaker: BreakerOptions = NEVER) -> None:
        super().__init__()
        self.breaker = Breaker(breaker, lambda state: None)
        self._policy = CallPolicy(QUICK, self.breaker)
        self.errors = list(errors)
        self.calls = 0

    async def put(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        async def send(body: Body) -> ObjectInfo:
            self.calls += 1
            info = await DiscardObjectStore.put(self, ref, body, attributes)
            self._fail()
            return info

        return await self._policy.call_with_body(body, send)

    @guarded()
    async def delete(self, ref: ObjectRef) -> None:
        self.calls += 1
        self._fail()

    def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        return self._policy.read(self._blocks)

    async def _blocks(self) -> AsyncIterator[bytes]:
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
    info = await store.put(REF, BytesBody(data), PLAIN)
    assert (info.size, store.calls) == (len(data), 3)


async def test_exhausted_retries_raise_last_error() -> None:
    store = Flaky(*[DOWN] * 10)
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await store.put(REF, BytesBody(b"x"), PLAIN)
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
        await store.put(REF, BytesBody(b"x"), PLAIN)
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
        await store.put(REF, UnavailableSource(b"xy"), PLAIN)
    assert caught.value is source_error
    assert store.calls == 1


async def test_read_is_retried_until_first_block() -> None:
    store = Flaky(DOWN, DOWN)
    blocks = [block async for block in store.read(REF, 0, 11)]
    assert (blocks, store.calls) == ([b"first", b"second"], 3)


async def test_interrupted_read_raises_error() -> None:
    store = Flaky()
    blocks = store.read(REF, 0, 11)
    assert await anext(blocks) == b"first"
    store.errors.append(DOWN)
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await anext(blocks)
    assert store.calls == 1


async def test_open_breaker_ends_retries() -> None:
    """The breaker counts attempts, and STORE_CIRCUIT_OPEN is not retried."""
    store = Flaky(*[DOWN] * 10, breaker=BreakerOptions(window=3, min_calls=3))
    with pytest.raises(Unavailable, match="STORE_CIRCUIT_OPEN"):
        await store.delete(REF)
    assert (store.calls, store.breaker.state) == (3, BreakerState.OPEN)


PART = PartTag(1, "etag", 1, BytesBody(b"x").crc32c)
REMOTE_CALLS: dict[str, Callable[[ObjectStore], Any]] = {
    "check": lambda store: store.check(REF.bucket),
    "put": lambda store: store.put(REF, BytesBody(b"x"), PLAIN),
    "open_multipart": lambda store: store.open_multipart(REF, PLAIN),
    "put_part": lambda store: store.put_part(REF, "id", 1, BytesBody(b"x")),
    "list_parts": lambda store: store.list_parts(REF, "id"),
    "open_multiparts": lambda store: store.open_multiparts(REF),
    "list_objects": lambda store: store.list_objects(REF.bucket, "", 10, ""),
    "complete_multipart": lambda store: store.complete_multipart(REF, "id", [PART]),
    "abort_multipart": lambda store: store.abort_multipart(REF, "id"),
    "read": lambda store: anext(store.read(REF, 0, 1)),
    "head": lambda store: store.head(REF),
    "delete": lambda store: store.delete(REF),
}
CASES = REMOTE_CALLS | {"empty read": lambda store: anext(store.read(REF, 0, 0), None)}
LOCAL_CALLS: dict[str, Callable[[ObjectStore], Any]] = {
    "presign_get": lambda store: store.presign_get(REF, 60, "name"),
    "presign_put": lambda store: store.presign_put(REF, 60, 1, PLAIN),
    "presign_part": lambda store: store.presign_part(REF, "id", 1, 60, 1),
}


def down(breaker: BreakerOptions) -> S3Options:
    """Return the options of a store that refuses connections."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return S3Options(
        endpoint_url=f"http://127.0.0.1:{port}",
        access_key=SecretStr("key"),
        secret_key=SecretStr("secret"),
        retry=QUICK,
        breaker=breaker,
    )


def test_calls_of_port_are_remote_or_local() -> None:
    """A new call of the port has to be added to the tests below."""
    methods = {name for name, _ in inspect.getmembers(ObjectStore, inspect.isfunction)}
    assert {name for name in methods if name[0] != "_"} == REMOTE_CALLS.keys() | LOCAL_CALLS.keys()


@pytest.mark.parametrize("call", CASES.values(), ids=CASES)
async def test_every_remote_call_is_retried_and_counted(call: Callable[[ObjectStore], Any]) -> None:
    """Each call makes all its attempts at once, and then finds the breaker open."""
    metrics = S3Metrics()
    breaker = BreakerOptions(window=QUICK.attempts, min_calls=QUICK.attempts)
    async with open_s3_store(down(breaker), metrics) as store:
        with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
            await call(store)
        state = metrics.registry.get_sample_value("sluice_store_breaker_state")
        assert state == BreakerState.OPEN
        with pytest.raises(Unavailable, match="STORE_CIRCUIT_OPEN"):
            await call(store)


@pytest.mark.parametrize("call", LOCAL_CALLS.values(), ids=LOCAL_CALLS)
async def test_presigning_works_while_breaker_is_open(
    call: Callable[[ObjectStore], Any],
) -> None:
    async with open_s3_store(down(BreakerOptions(window=1, min_calls=1))) as store:
        with pytest.raises(Unavailable, match="STORE_CIRCUIT_OPEN"):
            await store.head(REF)
        assert await call(store)
