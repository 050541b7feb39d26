"""Tests of the circuit breaker: opening, probes and outcomes that do not count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest

from sluice_backends.discard.objects import DiscardObjectStore
from sluice_backends.s3.breaker import Breaker, BreakerState
from sluice_backends.s3.options import BreakerOptions, RetryOptions
from sluice_backends.s3.policy import CallPolicy, guarded
from sluice_core.errors import DataLoss, NotFound, SluiceError, Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import Body, ObjectAttributes, ObjectInfo, PartTag
from sluice_core.uploads.model import MIB, ObjectRef

REF = ObjectRef("sluice", "a/b")
PLAIN = ObjectAttributes()
DOWN = Unavailable("STORE_UNAVAILABLE", "Down.")


class Clock:
    """Clock that tests advance explicitly."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class ScriptedStore(DiscardObjectStore):
    """Store with configurable errors and durations, whose calls pass a breaker."""

    def __init__(self, clock: Clock, breaker: Breaker) -> None:
        super().__init__()
        self.clock = clock
        self.breaker = breaker
        self._policy = CallPolicy(RetryOptions(attempts=1), breaker)
        self.error: SluiceError | None = None
        self.seconds_per_step = 0.0
        self.calls = 0
        self.gate: asyncio.Event | None = None

    @guarded()
    async def head(self, ref: ObjectRef) -> ObjectInfo | None:
        self.calls += 1
        self.clock.now += self.seconds_per_step
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return None

    async def put_part(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        async def send(body: Body) -> PartTag:
            async for _ in body.blocks():
                self.clock.now += self.seconds_per_step
            if self.error is not None:
                raise self.error
            return PartTag(number, "etag", body.size, body.crc32c)

        return await self._policy.call_with_body(body, send)

    @guarded(may_be_slow=True)
    async def complete_multipart(
        self, ref: Any, multipart_id: str, parts: Any, *, by_clients: bool = False
    ) -> ObjectInfo:
        self.clock.now += self.seconds_per_step
        return ObjectInfo(ref, 0, "etag", 0)

    def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        return self._policy.read(self._blocks)

    async def _blocks(self) -> AsyncIterator[bytes]:
        for _ in range(3):
            self.clock.now += self.seconds_per_step
            yield b"block"
        if self.error is not None:
            raise self.error


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def states() -> list[BreakerState]:
    return []


@pytest.fixture
def store(clock: Clock, states: list[BreakerState]) -> ScriptedStore:
    return ScriptedStore(clock, Breaker(BreakerOptions(), states.append, clock))


def state_of(store: ScriptedStore) -> BreakerState:
    return store.breaker.state


async def fail_calls(store: ScriptedStore, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
            await store.head(REF)


async def is_open(store: ScriptedStore) -> bool:
    calls = store.calls
    try:
        await store.head(REF)
    except SluiceError as error:
        return error.reason == "STORE_CIRCUIT_OPEN" and store.calls == calls
    return False


async def open_breaker(store: ScriptedStore) -> None:
    store.error = DOWN
    await fail_calls(store, 5)
    assert state_of(store) is BreakerState.OPEN


async def test_half_of_recent_calls_failing_opens_breaker(store: ScriptedStore) -> None:
    for _ in range(5):
        await store.head(REF)
    store.error = DOWN
    await fail_calls(store, 4)
    assert state_of(store) is BreakerState.CLOSED
    await fail_calls(store)
    assert await is_open(store)


async def test_failures_below_minimum_calls_keep_breaker_closed(store: ScriptedStore) -> None:
    store.error = DOWN
    await fail_calls(store, 4)
    assert state_of(store) is BreakerState.CLOSED
    await fail_calls(store)
    assert state_of(store) is BreakerState.OPEN


async def test_failures_outside_window_are_ignored(store: ScriptedStore) -> None:
    store.error = DOWN
    await fail_calls(store, 4)
    store.error = None
    for _ in range(10):
        await store.head(REF)
    store.error = DOWN
    await fail_calls(store, 4)
    assert state_of(store) is BreakerState.CLOSED


async def test_open_breaker_reports_retry_delay(store: ScriptedStore, clock: Clock) -> None:
    await open_breaker(store)
    clock.now += 10
    with pytest.raises(Unavailable, match="STORE_CIRCUIT_OPEN") as refused:
        await store.complete_multipart(REF, "id", [])
    assert refused.value.retry_after_seconds == 20


@pytest.mark.parametrize("recovered", [True, False])
async def test_probe_outcome_closes_or_reopens_breaker(
    store: ScriptedStore,
    clock: Clock,
    states: list[BreakerState],
    recovered: bool,
) -> None:
    await open_breaker(store)
    clock.now += 30
    store.calls, store.gate = 0, asyncio.Event()
    if recovered:
        store.error = None
    probe = asyncio.create_task(store.head(REF))
    await asyncio.sleep(0)
    for _ in range(3):
        with pytest.raises(Unavailable, match="STORE_CIRCUIT_OPEN"):
            await store.head(REF)
    assert store.calls == 1
    store.gate.set()
    (outcome,) = await asyncio.gather(probe, return_exceptions=True)
    assert outcome is (None if recovered else DOWN)
    last = BreakerState.CLOSED if recovered else BreakerState.OPEN
    assert states == [BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN, last]


async def test_cancelled_probe_allows_next_probe(store: ScriptedStore, clock: Clock) -> None:
    await open_breaker(store)
    clock.now += 30
    store.error, store.gate = None, asyncio.Event()
    probe = asyncio.create_task(store.head(REF))
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert state_of(store) is BreakerState.HALF_OPEN
    store.gate.set()
    await store.head(REF)
    assert state_of(store) is BreakerState.CLOSED


async def test_call_from_earlier_state_is_ignored(store: ScriptedStore, clock: Clock) -> None:
    store.gate = asyncio.Event()
    old = asyncio.create_task(store.head(REF))
    await asyncio.sleep(0)
    gate, store.gate = store.gate, None
    await open_breaker(store)
    store.error = None
    gate.set()
    await old
    assert state_of(store) is BreakerState.OPEN


@pytest.mark.parametrize("error", [NotFound("BUCKET_NOT_FOUND", "x"), DataLoss("CHECKSUM", "x")])
async def test_rejected_request_is_no_failure(store: ScriptedStore, error: SluiceError) -> None:
    store.error = error
    for _ in range(20):
        with pytest.raises(type(error)):
            await store.head(REF)
    assert state_of(store) is BreakerState.CLOSED


async def test_unavailable_source_is_no_store_failure(
    store: ScriptedStore,
) -> None:
    class UnavailableSource(BytesBody):
        async def blocks(self) -> AsyncIterator[bytes]:
            if self.size:
                raise Unavailable("REDIS_UNAVAILABLE", "Redis is down.")
            yield b""

    for _ in range(20):
        with pytest.raises(Unavailable, match="REDIS_UNAVAILABLE"):
            await store.put_part(REF, "id", 1, UnavailableSource(b"x"))
    assert state_of(store) is BreakerState.CLOSED


async def test_stalled_store_opens_breaker(store: ScriptedStore) -> None:
    store.seconds_per_step = 5.1
    for _ in range(5):
        await store.head(REF)
    assert state_of(store) is BreakerState.OPEN


async def test_long_part_with_progress_is_not_slow(store: ScriptedStore) -> None:
    store.seconds_per_step = 4.9
    for _ in range(10):
        await store.put_part(REF, "id", 1, BytesBody(b"x" * 8 * MIB))
    assert state_of(store) is BreakerState.CLOSED
    store.seconds_per_step = 5.1
    for _ in range(5):
        await store.put_part(REF, "id", 1, BytesBody(b"x" * MIB))
    assert state_of(store) is BreakerState.OPEN


async def test_slow_source_is_no_slow_store(store: ScriptedStore, clock: Clock) -> None:
    class SlowSource(BytesBody):
        async def blocks(self) -> AsyncIterator[bytes]:
            async for block in super().blocks():
                clock.now += 60
                yield block

    for _ in range(10):
        await store.put_part(REF, "id", 1, SlowSource(b"x" * 2 * MIB))
    assert state_of(store) is BreakerState.CLOSED


async def test_slow_completion_keeps_breaker_closed(store: ScriptedStore) -> None:
    store.seconds_per_step = 50
    for _ in range(10):
        await store.complete_multipart(REF, "id", [])
    assert state_of(store) is BreakerState.CLOSED


async def test_slow_reader_is_no_slow_store(store: ScriptedStore, clock: Clock) -> None:
    for _ in range(10):
        async for _ in store.read(REF, 0, 15):
            clock.now += 60
    assert state_of(store) is BreakerState.CLOSED
    store.error = DOWN
    for _ in range(5):
        with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
            [block async for block in store.read(REF, 0, 15)]
    assert state_of(store) is BreakerState.OPEN


async def test_read_closed_early_is_no_failure(store: ScriptedStore) -> None:
    store.error = DOWN
    for _ in range(10):
        async with aclosing(cast(Any, store.read(REF, 0, 15))) as blocks:
            await anext(blocks)
    assert state_of(store) is BreakerState.CLOSED


def test_window_below_minimum_calls_is_rejected() -> None:
    with pytest.raises(ValueError, match="min_calls"):
        BreakerOptions(window=3, min_calls=5)


def test_initial_state_is_reported(clock: Clock) -> None:
    states: list[BreakerState] = []
    Breaker(BreakerOptions(), states.append, clock)
    assert states == [BreakerState.CLOSED]
