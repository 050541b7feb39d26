"""Chunk sizes and stream counts of objects."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_client.checksums import combined_crc32c, crc32c, crc32c_of_blocks
from sluice_client.errors import InvalidArgument
from sluice_client.model import MIB, Durability, Limits
from sluice_client.uploads.plan import chunk_size_for, chunk_sizes, lanes_for

LIMITS = Limits(
    max_block_bytes=MIB,
    max_chunk_bytes=64 * MIB,
    max_unary_message_bytes=32 * MIB,
    preferred_chunk_bytes=8 * MIB,
    part_bytes=8 * MIB,
    max_object_bytes=5 * 1024**4,
    max_chunks=1_000_000,
    max_inline_bytes=MIB,
    idle_lifetime=timedelta(days=1),
    total_lifetime=timedelta(days=7),
    durability=Durability.MEMORY,
    look_ahead_bytes=32 * MIB,
    uploads_per_minute=0,
    bytes_per_second=0,
)


@given(st.integers(0, 5 * 1024**4) | st.none())
def test_chosen_chunk_size_is_one_that_the_server_takes(size: int | None) -> None:
    chosen = chunk_size_for(size, LIMITS, None)
    assert LIMITS.preferred_chunk_bytes <= chosen <= LIMITS.max_chunk_bytes
    assert size is None or -(-size // chosen) <= LIMITS.max_chunks


def test_preference_of_the_server_stands_while_it_can() -> None:
    small = replace(LIMITS, preferred_chunk_bytes=64 * 1024, max_chunks=10_000)
    assert chunk_size_for(9 * 64 * 1024, small, None) == 64 * 1024
    assert chunk_size_for(10_000 * 64 * 1024, small, None) == 64 * 1024
    assert chunk_size_for(10_000 * 64 * 1024 + 1, small, None) == MIB


@pytest.mark.parametrize("requested", [0, -1, 64 * MIB + 1])
def test_chunk_size_outside_of_the_limits_is_refused(requested: int) -> None:
    with pytest.raises(InvalidArgument, match="BAD_CHUNK_SIZE"):
        chunk_size_for(100, LIMITS, requested)


def test_chunk_size_that_makes_too_many_chunks_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="BAD_CHUNK_SIZE"):
        chunk_size_for(10 * LIMITS.max_chunks, LIMITS, 9)
    assert chunk_size_for(10 * LIMITS.max_chunks, LIMITS, 10) == 10


def test_too_large_object_is_refused_before_sending() -> None:
    with pytest.raises(InvalidArgument, match="OBJECT_TOO_LARGE"):
        chunk_size_for(LIMITS.max_object_bytes + 1, LIMITS, None)


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_chunks_make_up_the_object(size: int, chunk_size: int) -> None:
    sizes = list(chunk_sizes(size, chunk_size))
    assert sum(sizes) == size
    assert all(one == chunk_size for one in sizes[:-1])


@given(st.binary(max_size=2000), st.integers(1, 300))
def test_object_checksum_combines_chunk_checksums(data: bytes, chunk_size: int) -> None:
    chunks = [data[at : at + chunk_size] for at in range(0, len(data), chunk_size)]
    assert combined_crc32c((crc32c(chunk), len(chunk)) for chunk in chunks) == crc32c(data)
    assert crc32c_of_blocks(chunks) == crc32c(data)


@pytest.mark.parametrize(
    ("remaining", "most", "lanes"),
    [(0, 4, 1), (16 * MIB, 4, 1), (17 * MIB, 4, 2), (65 * MIB, 4, 4), (65 * MIB, 1, 1)],
)
def test_larger_uploads_get_more_streams(remaining: int, most: int, lanes: int) -> None:
    assert lanes_for(remaining, most) == lanes
