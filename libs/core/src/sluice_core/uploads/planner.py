"""Planning of parts from chunks within S3's limits. Pure; docs/protocol.md, rule 12."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from sluice_core.errors import InvalidArgument
from sluice_core.uploads.model import (
    DEFAULT_PART_BYTES,
    MAX_CHUNK_BYTES,
    MAX_OBJECT_BYTES,
    MAX_PART_BYTES,
    MAX_PARTS,
    MIB,
    MIN_PART_BYTES,
    ChunkRange,
    PartPlan,
)

# S3 accepts at most 10,000 parts of 5 MiB to 5 GiB; only the last may be smaller. Both planners
# double the part size every 1,000 parts, so that an object of unknown size never runs out of parts.

PARTS_PER_TIER = 1_000
"""The part size doubles after this many parts."""

_TIERS = MAX_PARTS // PARTS_PER_TIER
_FIRST_PARTS_IN_ALL_TIERS = PARTS_PER_TIER * ((1 << _TIERS) - 1)
"""Capacity of ten tiers, in parts of the first size (1,023,000)."""

_LARGEST_FIRST_PART = 64 * MIB
"""Upper bound when a large expected size raises the part size; doubling covers the rest."""

_SMALLEST_FOR_UNKNOWN_SIZE = -(-MAX_OBJECT_BYTES // _FIRST_PARTS_IN_ALL_TIERS // MIB) * MIB
"""Smaller first parts (5 MiB) would use up ten tiers before 5 TiB."""


def choose_part_bytes(drive_part_bytes: int, expected_size: int | None) -> int:
    """Return the size of an upload's first parts, in bytes.

    This is the drive's value (0: the default, 8 MiB; at least 5 MiB), raised so that an object of
    the expected size mostly fits the first 1,000 parts, and an object of unknown size can grow to
    5 TiB within 10,000 parts.
    """
    part_bytes = max(drive_part_bytes or DEFAULT_PART_BYTES, MIN_PART_BYTES)
    if expected_size is None:
        return max(part_bytes, _SMALLEST_FOR_UNKNOWN_SIZE)
    while part_bytes < _LARGEST_FIRST_PART and expected_size > PARTS_PER_TIER * part_bytes:
        part_bytes *= 2
    return part_bytes


@dataclass(frozen=True, slots=True)
class UniformPlan:
    """Plan of an upload with a declared chunk size: every part is a fixed range of chunks.

    All chunks but the last have `chunk_size` bytes. Part p has `chunks_per_part`·2^⌊(p−1)/1000⌋
    chunks; the doubling stops where a part would exceed 5 GiB (`last_tier`).
    """

    chunk_size: int
    chunks_per_part: int
    last_tier: int

    @property
    def first_part_bytes(self) -> int:
        """Bytes of a full part of the first tier; a smaller object needs no multipart."""
        return self.chunks_per_part * self.chunk_size

    def part_bytes(self, part: int) -> int:
        """Return the bytes of part `part` when it is full."""
        return self.first_part_bytes << self._tier_of_part(part)

    def part_of_chunk(self, number: int) -> int:
        """Return the part (from 1) of chunk `number` (from 0)."""
        tier_chunks = PARTS_PER_TIER * self.chunks_per_part
        # Tier k begins after tier_chunks·(2^k − 1) chunks, hence the logarithm.
        tier = min((number // tier_chunks + 1).bit_length() - 1, self.last_tier)
        into_tier = number - tier_chunks * ((1 << tier) - 1)
        return PARTS_PER_TIER * tier + 1 + into_tier // (self.chunks_per_part << tier)

    def chunks_of_part(self, part: int) -> ChunkRange:
        """Return the chunks of a full part; the last part of an upload ends earlier."""
        tier = self._tier_of_part(part)
        per_part = self.chunks_per_part << tier
        tier_first = PARTS_PER_TIER * self.chunks_per_part * ((1 << tier) - 1)
        first = tier_first + (part - 1 - PARTS_PER_TIER * tier) * per_part
        return ChunkRange(first, first + per_part - 1)

    def _tier_of_part(self, part: int) -> int:
        return min((part - 1) // PARTS_PER_TIER, self.last_tier)


@lru_cache(maxsize=256)
def uniform_plan(part_bytes: int, chunk_size: int) -> UniformPlan:
    """Return the plan for parts of at least `part_bytes` from chunks of `chunk_size` bytes.

    No part exceeds 5 GiB: where no number of whole chunks lies between both bounds, parts are
    smaller than `part_bytes`. Raise `InvalidArgument` BAD_CHUNK_SIZE for a chunk larger than any
    part.
    """
    if not 0 < chunk_size <= MAX_PART_BYTES:
        raise InvalidArgument(
            "BAD_CHUNK_SIZE",
            f"A chunk of a uniform upload has 1 to {MAX_PART_BYTES} bytes; declare another size.",
            field="chunk_size",
        )
    per_part = min(-(-part_bytes // chunk_size), MAX_PART_BYTES // chunk_size)
    last_tier = (MAX_PART_BYTES // (per_part * chunk_size)).bit_length() - 1
    return UniformPlan(chunk_size, per_part, last_tier)


LARGEST_FRONTIER_PART = MAX_PART_BYTES - MAX_CHUNK_BYTES
"""One largest chunk below 5 GiB, because the chunk that reaches the target is never split."""


def frontier_part_bytes(part_bytes: int, part: int) -> int:
    """Return the bytes at which a frontier upload cuts part `part`."""
    return min(part_bytes << ((part - 1) // PARTS_PER_TIER), LARGEST_FRONTIER_PART)


class Cut(NamedTuple):
    """Part whose chunks are all received, and its bytes."""

    plan: PartPlan
    size: int


@dataclass(slots=True)
class Frontier:
    """Plan of an upload without declared chunk sizes: parts are cut from left to right.

    `first_chunk` is the first chunk in no part, `next_chunk` the first one missing from the
    contiguous run of received chunks, `run_bytes` the bytes of the run in between.
    """

    part_bytes: int
    parts_cut: int = 0
    first_chunk: int = 0
    next_chunk: int = 0
    run_bytes: int = 0

    @property
    def target_bytes(self) -> int:
        """The size at which the next part is cut."""
        return frontier_part_bytes(self.part_bytes, self.parts_cut + 1)

    def extend(self, size: int) -> Cut | None:
        """Add chunk `next_chunk` of `size` bytes to the run; return the part it completes."""
        self.next_chunk += 1
        self.run_bytes += size
        return self._cut() if self.run_bytes >= self.target_bytes else None

    def resize(self, delta: int) -> Cut | None:
        """Account for a replaced chunk of the uncut run; return the part that this completes."""
        self.run_bytes += delta
        return self._cut() if self.run_bytes >= self.target_bytes else None

    def finish(self) -> Cut | None:
        """Return the tail, or the only part of an empty object; no chunk follows the run."""
        if self.first_chunk < self.next_chunk or self.parts_cut == 0:
            return self._cut()
        return None

    def _cut(self) -> Cut:
        self.parts_cut += 1
        cut = Cut(PartPlan(self.parts_cut, self.first_chunk, self.next_chunk - 1), self.run_bytes)
        self.first_chunk = self.next_chunk
        self.run_bytes = 0
        return cut
