"""Network faults as values that a proxy applies."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Way(StrEnum):
    """A direction from the client's point of view."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one direction.

    latency_seconds: delay of each byte; the bandwidth stays the same.
    stalled: bytes wait until this ends, as in a network that loses every packet. (Connections
        are still opened: that is the kernel's doing.)
    slice_bytes: largest piece in which bytes arrive, each by a separate write.
    bytes_per_second: bandwidth of each connection.
    flip_at: the lowest bit of the byte at this offset of a connection is flipped.
    flip_probability: of each byte, by `seed`; the same bytes every time.
    most_flips: limit over all connections, so that a retry succeeds.
    """

    latency_seconds: float = 0.0
    stalled: bool = False
    slice_bytes: int | None = None
    bytes_per_second: float | None = None
    flip_at: int | None = None
    flip_probability: float = 0.0
    most_flips: int = 1
    seed: int = 0


NO_FAULTS = Faults()


class Direction:
    """The faults of one direction, for all connections."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.faults = NO_FAULTS
        self.flips_left = 0
        self.flowing = asyncio.Event()
        self.flowing.set()

    def set(self, faults: Faults) -> None:
        self.faults = faults
        self.flips_left = faults.most_flips
        if faults.stalled:
            self.flowing.clear()
        else:
            self.flowing.set()


class Flipper:
    """Flips bits of one direction of one connection, at offsets independent of read sizes."""

    def __init__(self, direction: Direction, connection: int) -> None:
        self._direction = direction
        self._connection = connection
        self._faults: Faults | None = None
        self._position = 0
        self._places: Iterator[int] = iter(())
        self._next: int | None = None

    def applied_to(self, data: bytes) -> bytes:
        faults = self._direction.faults
        if faults is not self._faults:
            self._faults = faults
            self._places = self._places_of(faults)
            self._next = next(self._places, None)
        start, self._position = self._position, self._position + len(data)
        if self._next is None:
            return data
        flipped = bytearray(data)
        while self._next is not None and self._next < self._position:
            if self._next >= start and self._direction.flips_left > 0:
                flipped[self._next - start] ^= 1
                self._direction.flips_left -= 1
            self._next = next(self._places, None)
        return bytes(flipped)

    def _places_of(self, faults: Faults) -> Iterator[int]:
        if faults.flip_at is not None:
            yield faults.flip_at
        elif faults.flip_probability > 0:
            chance = random.Random(f"{faults.seed}/{self._direction.way}/{self._connection}")
            place = -1
            while True:
                # Distance to the next flip; equivalent to one trial per byte.
                place += 1 + int(
                    math.log(1 - chance.random()) / math.log1p(-faults.flip_probability)
                    if faults.flip_probability < 1
                    else 0
                )
                yield place


async def pieces(direction: Direction, data: bytes) -> AsyncIterator[bytes]:
    """Yield the data in pieces and at the pace of the current faults."""
    at = 0
    while at < len(data):
        await direction.flowing.wait()
        faults = direction.faults
        size = faults.slice_bytes or len(data)
        if faults.bytes_per_second is not None:
            # Twenty pieces per second are smooth enough.
            size = max(1, min(size, int(faults.bytes_per_second / 20)))
        piece = data[at : at + size]
        yield piece
        at += len(piece)
        if faults.bytes_per_second is not None:
            await asyncio.sleep(len(piece) / faults.bytes_per_second)
