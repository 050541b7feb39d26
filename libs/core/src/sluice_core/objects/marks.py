"""Object metadata that records the origin of an object. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

from sluice_core.errors import InvalidArgument
from sluice_core.uploads.names import normalize_path

UPLOAD_MARK: Final = "sluice-upload"
PATH_MARK: Final = "sluice-path"
TRACE_MARK: Final = "sluice-trace"

_TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def upload_mark(upload_id: str) -> dict[str, str]:
    """Return the metadata of an upload's object; only completing the upload makes its node."""
    return {UPLOAD_MARK: upload_id}


def is_of_upload(metadata: Mapping[str, str]) -> bool:
    """Return whether an upload wrote this object."""
    return UPLOAD_MARK in metadata


def path_mark(path: str) -> dict[str, str]:
    """Return the metadata of an object that a client puts through a presigned URL.

    It carries the path of the future node and is signed with the URL. The path is in Base64 (RFC
    4648, section 5, no padding): metadata is ASCII and too small for the longest path with every
    byte escaped. Raise `InvalidArgument` BAD_PATH.
    """
    encoded = base64.urlsafe_b64encode(normalize_path(path).encode())
    return {PATH_MARK: encoded.decode().rstrip("=")}


def marked_path(metadata: Mapping[str, str]) -> str | None:
    """Return the path of the object's future node; None without a mark.

    Raise `InvalidArgument` BAD_PATH for an invalid mark.
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


def trace_mark(traceparent: str) -> dict[str, str]:
    """Return the metadata that continue the trace of whoever signed the URL; none without one."""
    return {TRACE_MARK: traceparent} if traceparent else {}


def marked_trace(metadata: Mapping[str, str]) -> str:
    """Return the traceparent in the metadata of an object; empty without a valid one."""
    found = metadata.get(TRACE_MARK, "")
    return found if _TRACEPARENT.fullmatch(found) else ""
