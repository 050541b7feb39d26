"""Chunk size and number of parallel streams of an object. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sluice_client.errors import InvalidArgument
from sluice_client.model import MIB, Limits

_ONE_LANE_BYTES = 16 * MIB
_TWO_LANES_BYTES = 64 * MIB


def chunk_size_for(size: int | None, limits: Limits, requested: int | None) -> int:
    """Return the bytes of every chunk but the last.

    The server's preference, increased where the object would otherwise have too many chunks. Raise
    InvalidArgument BAD_CHUNK_SIZE for an impossible request, OBJECT_TOO_LARGE.
    """
    if size is not None and size > limits.max_object_bytes:
        raise InvalidArgument(
            "OBJECT_TOO_LARGE",
            f"{size} bytes are more than the {limits.max_object_bytes} that this server takes",
        )
    least = 1 if size is None else -(-size // limits.max_chunks)
    preferred = min(limits.preferred_chunk_bytes, limits.max_chunk_bytes)
    if requested is None and least <= preferred:
        return preferred
    if requested is None:
        # Whole MiB where possible: chunks are then cut at block boundaries.
        return min(-(-least // MIB) * MIB, limits.max_chunk_bytes)
    if not max(1, least) <= requested <= limits.max_chunk_bytes:
        raise InvalidArgument(
            "BAD_CHUNK_SIZE",
            f"the chunk size must be {max(1, least)} to {limits.max_chunk_bytes} bytes here",
            field="chunk_size",
        )
    return requested


def is_usable_chunk_size(chunk_size: int, size: int, limits: Limits) -> bool:
    """Return whether an upload that began with this chunk size can continue under these limits."""
    if not 1 <= chunk_size <= limits.max_chunk_bytes or size > limits.max_object_bytes:
        return False
    return chunk_count(size, chunk_size) <= limits.max_chunks


def chunk_count(size: int, chunk_size: int) -> int:
    """Return the number of chunks of an object."""
    return -(-size // chunk_size)


def chunk_sizes(size: int, chunk_size: int) -> Iterator[int]:
    """Yield the sizes of the chunks of an object, in order."""
    for offset in range(0, size, chunk_size):
        yield min(chunk_size, size - offset)


def lanes_for(remaining_bytes: int, most: int) -> int:
    """Return the number of parallel streams worth opening for so many bytes."""
    if remaining_bytes <= _ONE_LANE_BYTES:
        return 1
    if remaining_bytes <= _TWO_LANES_BYTES:
        return min(2, most)
    return most
