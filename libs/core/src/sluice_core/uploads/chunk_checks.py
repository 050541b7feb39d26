"""Checks and errors shared by all chunk stores."""

from __future__ import annotations

import re

from sluice_core.errors import Aborted, AlreadyExists, DataLoss, InvalidArgument
from sluice_core.uploads.model import ChunkRef

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def is_name(text: str) -> bool:
    """Return whether an upload id or a token is safe as a file name and as a part of a key."""
    return _NAME.fullmatch(text) is not None


def check_name(text: str, field: str) -> str:
    """Return the text; raise `InvalidArgument` BAD_ID when it could escape its directory."""
    if not is_name(text):
        raise InvalidArgument(
            "BAD_ID", f"{field} has 1 to 128 letters, digits, '-' or '_'.", field=field
        )
    return text


def check_chunk(chunk: ChunkRef, size: int, crc32c: int) -> None:
    """Raise `DataLoss` CHUNK_DAMAGED when size or CRC32C differ from the chunk's."""
    if size != chunk.size or crc32c != chunk.crc32c:
        raise DataLoss(
            "CHUNK_DAMAGED",
            f"The stored bytes of chunk {chunk.number} do not match its checksum; send it again.",
            metadata={"number": str(chunk.number)},
        )


def chunk_missing(chunk: ChunkRef) -> DataLoss:
    """Return the error for an accepted chunk without bytes."""
    return DataLoss(
        "CHUNK_MISSING",
        f"The stored bytes of chunk {chunk.number} are gone; send it again.",
        metadata={"number": str(chunk.number)},
    )


def staging_dropped() -> Aborted:
    """Return the error for a chunk whose upload was dropped while it was being received."""
    return Aborted(
        "STAGING_DROPPED",
        "The upload ended while this chunk was being received; get the upload's status.",
    )


def token_in_use() -> AlreadyExists:
    """Return the error for a reused token: two attempts with one token would mix their bytes."""
    return AlreadyExists("TOKEN_IN_USE", "This staging token is in use; create a new one.")
