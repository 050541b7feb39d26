"""Rules of object keys that hold in every store. Pure."""

from __future__ import annotations

from typing import Final

from sluice_core.errors import InvalidArgument

MAX_KEY_BYTES: Final = 1024
"""S3's limit, in UTF-8."""

_AMBIGUOUS_SEGMENTS: Final = frozenset({"", ".", ".."})


def check_key(key: str) -> None:
    """Raise `InvalidArgument` BAD_KEY for a key that some stores, proxies or browsers normalize.

    S3 preserves `a//b` and `a/../b`; a store on a file system does not, and a browser resolves dot
    segments before it sends a request (WHATWG URL).
    """
    if not _has_valid_length(key) or not _AMBIGUOUS_SEGMENTS.isdisjoint(key.split("/")):
        raise InvalidArgument(
            "BAD_KEY",
            f"An object's key has at most {MAX_KEY_BYTES} bytes in segments that are neither "
            "empty nor dots; correct the drive's key prefix.",
        )


def _has_valid_length(key: str) -> bool:
    try:
        return len(key.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:  # an unpaired surrogate
        return False
