"""Errors of a stream of chunks that breaks the order of headers and blocks, on every server."""

from __future__ import annotations

from sluice_core.errors import InvalidArgument, OutOfRange


def block_before_header() -> InvalidArgument:
    """Return the error for a block outside of a chunk."""
    return InvalidArgument(
        "BLOCK_BEFORE_HEADER",
        "A block arrived while no chunk was open; send a header with number and size first.",
        field="header",
    )


def block_too_large(number: int, max_block_bytes: int, upload_id: str = "") -> InvalidArgument:
    """Return the error for a block above the limit.

    Args:
        upload_id: added to the metadata, for a stream of several uploads; likewise below.
    """
    return InvalidArgument(
        "BLOCK_TOO_LARGE",
        f"A block has at most {max_block_bytes} bytes; send the chunk as several.",
        field="data",
        metadata=_chunk(number, upload_id),
    )


def chunk_overrun(number: int, size: int, upload_id: str = "") -> OutOfRange:
    """Return the error for bytes beyond the size in the chunk's header."""
    return OutOfRange(
        "CHUNK_OVERRUN",
        f"Chunk {number} has more bytes than the {size} of its header; open the next chunk with a "
        "header.",
        field="data",
        metadata=_chunk(number, upload_id),
    )


def chunk_open(number: int, missing_bytes: int, upload_id: str = "") -> InvalidArgument:
    """Return the error for a header before the open chunk is complete."""
    return InvalidArgument(
        "CHUNK_OPEN",
        f"Chunk {number} lacks {missing_bytes} bytes; send them before the next header.",
        field="header",
        metadata=_chunk(number, upload_id),
    )


def chunk_incomplete(number: int, missing_bytes: int, upload_id: str = "") -> InvalidArgument:
    """Return the error for a stream that ends inside of a chunk."""
    return InvalidArgument(
        "CHUNK_INCOMPLETE",
        f"The stream ended {missing_bytes} bytes before the end of chunk {number}; send the whole "
        "chunk again.",
        field="data",
        metadata=_chunk(number, upload_id),
    )


def _chunk(number: int, upload_id: str) -> dict[str, str]:
    where = {"number": str(number)}
    return {"upload_id": upload_id, **where} if upload_id else where
