"""What is written on an object, in its metadata, about how it came to be. Pure.

An object that an upload brings says so. One that a client puts by itself, through a presigned URL,
carries the path that its node is to have: whoever signs the URL signs the path with it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from sluice_core.errors import InvalidArgument
from sluice_core.uploads.names import normalize_path

UPLOAD_MARK: Final = "sluice-upload"
PATH_MARK: Final = "sluice-path"


def upload_mark(upload_id: str) -> dict[str, str]:
    """For an object that an upload brings: its node comes with the upload's end, or never."""
    return {UPLOAD_MARK: upload_id}


def is_of_upload(metadata: Mapping[str, str]) -> bool:
    """Did an upload bring this object?"""
    return UPLOAD_MARK in metadata


def path_mark(path: str) -> dict[str, str]:
    """For an object that somebody else is to put. Raises `InvalidArgument` BAD_PATH.

    In Base64 (RFC 4648, section 5, no padding): metadata is ASCII, and has no room for the longest
    path with every byte escaped.
    """
    encoded = base64.urlsafe_b64encode(normalize_path(path).encode())
    return {PATH_MARK: encoded.decode().rstrip("=")}


def marked_path(metadata: Mapping[str, str]) -> str | None:
    """The path that an object's node is to have; None where nobody said.

    Raises `InvalidArgument` BAD_PATH for what can be none.
    """
    encoded = metadata.get(PATH_MARK)
    if encoded is None:
        return None
    try:
        padded = encoded.encode() + b"=" * (-len(encoded) % 4)
        return normalize_path(base64.b64decode(padded, altchars=b"-_", validate=True).decode())
    except (binascii.Error, UnicodeError):
        raise InvalidArgument(
            "BAD_PATH", f"The object's {PATH_MARK} is no path in Base64; sign it with its URL."
        ) from None
