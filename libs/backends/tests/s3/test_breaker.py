"""The circuit breaker: when it opens, whom it lets through, and what it does not count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest

from sluice_backends.discard.objects import DiscardObjectStore
from sluice_backends.s3.breaker import (
    Breaker,
    BreakerState,
    CircuitBreakerObjectStore,
)
from sluice_backends.s3.options import BreakerOptions
from sluice_core.errors import DataLoss, NotFound, SluiceError, Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import Body, ObjectAttributes, ObjectInfo, PartTag
from sluice_core.uploads.model import MIB, ObjectRef

REF = ObjectRef("sluice", "a/b")
PLAIN = ObjectAttributes()
DOWN = Unavailable("STORE_UNAVAILABLE", "Down.")


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Store(DiscardObjectStore):
    """Does, and lets pass as much time, as it is told."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.error: SluiceError | None = None
        self.takes_seconds = 0.0
        self.asked = 0
        self.gate: asyncio.Event | None = None

    async def head(self, ref: ObjectRef) -> ObjectInfo | None:
        self.asked += 1
        self.clock.now += self.takes_seconds
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return None

    async def put_part(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        async for _ in body.blocks():
            self.clock.now += self.takes_seconds
        if self.error is not None:
            raise self.error
        return PartTag(number, "etag", body.size, body.crc32c)

    async def complete_multipart(self, ref: Any, multipart_id: str, parts: Any) -> ObjectInfo:
        self.clock.now += self.takes_seconds
        return ObjectInfo(ref, 0, "etag", 0)

    async def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        for _ in range(3):
            self.clock.now += self.takes_seconds
            yield b"block"
        if self.error is not None:
            raise self.error


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store(clock)


@pytest.fixture
def states() -> list[BreakerState]:
    return []


@pytest.fixture
def breaking(store: Store, clock: Clock, states: list[BreakerState]) -> CircuitBreakerObjectStore:
    return CircuitBreakerObjectStore(store, BreakerOptions(), states.append, clock)


def state_of(breaking: CircuitBreakerObjectStore) -> BreakerState:
    return breaking.state


async def fails(breaking: CircuitBreakerObjectStore, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
            await breaking.head(REF)


async def is_open(breaking: CircuitBreakerObjectStore, store: Store) -> bool:
    asked = store.asked
    try:
        await breaking.head(REF)
    except SluiceError as error:
        return error.reason == "STORE_CIRCUIT_OPEN" and store.asked == asked
    return False


async def opened(breaking: CircuitBreakerObjectStore, store: Store) -> None:
    store.error = DOWN
    await fails(breaking, 5)
    assert state_of(breaking) is BreakerState.OPEN


async def test_it_opens_when_half_of_the_last_calls_failed(
    breaking: CircuitBreakerObjectStore, store: Store
) -> None:
    for _ in range(5):
        await breaking.head(REF)
    store.error = DOWN
    await fails(breaking, 4)
    assert state_of(breaking) is BreakerState.CLOSED
    await fails(breaking)
    assert await is_open(breaking, store)


async def test_fewer_than_five_calls_tell_nothing(
    breaking: CircuitBreakerObjectStore, store: Store
) -> None:
    store.error = DOWN
    await fails(breaking, 4)
    assert state_of(breaking) is BreakerState.CLOSED
    await fails(breaking)
    assert state_of(breaking) is BreakerState.OPEN


async def test_old_failures_are_forgotten(
    breaking: CircuitBreakerObjectStore, store: Store
) -> None:
    store.error = DOWN
    await fails(breaking, 4)
    store.error = None
    for _ in range(10):
        await breaking.head(REF)
    store.error = DOWN
    await fails(breaking, 4)
    assert state_of(breaking) is BreakerState.CLOSED


async def test_it_says_when_to_come_again(
    breaking: CircuitBreakerObjectStore, store: Store, clock: Clock
) -> None:
    await opened(breaking, store)
    clock.now += 10
    with pytest.raises(Unavailable, match="STORE_CIRCUIT_OPEN") as refused:
        await breaking.delete(REF)
    assert refused.value.retry_after_seconds == 20


@pytest.mark.parametrize("recovered", [True, False])
async def test_after_a_while_one_call_decides(
    breaking: CircuitBreakerObjectStore,
    store: Store,
    clock: Clock,
    states: list[BreakerState],
    recovered: bool,
) -> None:
    await opened(breaking, store)
    clock.now += 30
    store.asked, store.gate = 0, asyncio.Event()
    if recovered:
        store.error = None
    probe = asyncio.create_task(breaking.head(REF))
    await asyncio.sleep(0)
    for _ in range(3):
        with pytest.raises(Unavailable, match="STORE_CIRCUIT_OPEN"):
            await breaking.head(REF)
    assert store.asked == 1
    store.gate.set()
    (outcome,) = await asyncio.gather(probe, return_exceptions=True)
    assert outcome is (None if recovered else DOWN)
    last = BreakerState.CLOSED if recovered else BreakerState.OPEN
    assert states == [BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN, last]


async def test_a_probe_that_is_cancelled_makes_room_for_the_next(
    breaking: CircuitBreakerObjectStore, store: Store, clock: Clock
) -> None:
    await opened(breaking, store)
    clock.now += 30
    store.error, store.gate = None, asyncio.Event()
    probe = asyncio.create_task(breaking.head(REF))
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert state_of(breaking) is BreakerState.HALF_OPEN
    store.gate.set()
    await breaking.head(REF)
    assert state_of(breaking) is BreakerState.CLOSED


async def test_a_call_from_before_the_opening_does_not_decide(
    breaking: CircuitBreakerObjectStore, store: Store, clock: Clock
) -> None:
    store.gate = asyncio.Event()
    old = asyncio.create_task(breaking.head(REF))
    await asyncio.sleep(0)
    gate, store.gate = store.gate, None
    await opened(breaking, store)
    store.error = None
    gate.set()
    await old
    assert state_of(breaking) is BreakerState.OPEN


@pytest.mark.parametrize("error", [NotFound("BUCKET_NOT_FOUND", "x"), DataLoss("CHECKSUM", "x")])
async def test_a_refusal_is_an_answer(
    breaking: CircuitBreakerObjectStore, store: Store, error: SluiceError
) -> None:
    store.error = error
    for _ in range(20):
        with pytest.raises(type(error)):
            await breaking.head(REF)
    assert state_of(breaking) is BreakerState.CLOSED


async def test_a_body_whose_source_is_away_says_nothing_about_the_store(
    breaking: CircuitBreakerObjectStore,
) -> None:
    class Away(BytesBody):
        async def blocks(self) -> AsyncIterator[bytes]:
            if self.size:
                raise Unavailable("REDIS_UNAVAILABLE", "Redis is away.")
            yield b""

    for _ in range(20):
        with pytest.raises(Unavailable, match="REDIS_UNAVAILABLE"):
            await breaking.put_part(REF, "id", 1, Away(b"x"))
    assert state_of(breaking) is BreakerState.CLOSED


async def test_a_store_that_stands_still_opens_it(
    breaking: CircuitBreakerObjectStore, store: Store
) -> None:
    store.takes_seconds = 5.1
    for _ in range(5):
        await breaking.head(REF)
    assert state_of(breaking) is BreakerState.OPEN


async def test_a_long_part_that_moves_is_not_slow(
    breaking: CircuitBreakerObjectStore, store: Store
) -> None:
    store.takes_seconds = 4.9
    for _ in range(10):
        await breaking.put_part(REF, "id", 1, BytesBody(b"x" * 8 * MIB))
    assert state_of(breaking) is BreakerState.CLOSED
    store.takes_seconds = 5.1
    for _ in range(5):
        await breaking.put_part(REF, "id", 1, BytesBody(b"x" * MIB))
    assert state_of(breaking) is BreakerState.OPEN


async def test_a_slow_source_is_not_a_slow_store(
    breaking: CircuitBreakerObjectStore, store: Store, clock: Clock
) -> None:
    class Slow(BytesBody):
        async def blocks(self) -> AsyncIterator[bytes]:
            async for block in super().blocks():
                clock.now += 60
                yield block

    for _ in range(10):
        await breaking.put_part(REF, "id", 1, Slow(b"x" * 2 * MIB))
    assert state_of(breaking) is BreakerState.CLOSED


async def test_putting_an_object_together_may_take_its_time(
    breaking: CircuitBreakerObjectStore, store: Store
) -> None:
    store.takes_seconds = 50
    for _ in range(10):
        await breaking.complete_multipart(REF, "id", [])
    assert state_of(breaking) is BreakerState.CLOSED


async def test_a_read_counts_by_its_longest_wait_and_not_by_its_reader(
    breaking: CircuitBreakerObjectStore, store: Store, clock: Clock
) -> None:
    for _ in range(10):
        async for _ in breaking.read(REF, 0, 15):
            clock.now += 60
    assert state_of(breaking) is BreakerState.CLOSED
    store.error = DOWN
    for _ in range(5):
        with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
            [block async for block in breaking.read(REF, 0, 15)]
    assert state_of(breaking) is BreakerState.OPEN


async def test_a_reader_that_leaves_early_is_no_failure(
    breaking: CircuitBreakerObjectStore, store: Store
) -> None:
    store.error = DOWN
    for _ in range(10):
        async with aclosing(cast(Any, breaking.read(REF, 0, 15))) as blocks:
            await anext(blocks)
    assert state_of(breaking) is BreakerState.CLOSED


def test_a_window_smaller_than_what_it_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="min_calls"):
        BreakerOptions(window=3, min_calls=5)


def test_the_state_is_told_from_the_beginning(clock: Clock) -> None:
    states: list[BreakerState] = []
    Breaker(BreakerOptions(), states.append, clock)
    assert states == [BreakerState.CLOSED]
