"""Pages of listings: opaque cursors, and page numbers for clients that want them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Query

from sluice_core.errors import InvalidArgument
from sluice_gateway.http.json_bodies import parse_json
from sluice_gateway.http.parameters import Whole

MAX_PAGE_SIZE: Final = 200
_MAX_PAGE: Final = 10_000
_MAX_CURSOR_CHARS: Final = 2048

PageNumber = Annotated[
    Whole, Query(ge=0, le=_MAX_PAGE, description="Counts from 0; skips what comes before.")
]
PageSize = Annotated[Whole, Query(ge=1, le=MAX_PAGE_SIZE)]
Cursor = Annotated[
    str | None,
    Query(
        max_length=_MAX_CURSOR_CHARS,
        description="`next` of the page before, in place of `page`.",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},
    ),
]


def encode_cursor(kind: str, values: Sequence[str | float]) -> str:
    """Return the cursor of a place in a listing.

    Args:
        kind: the listing and its order; a cursor is good for no other.
    """
    content = json.dumps([kind, *values], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decode_cursor(kind: str, cursor: str, types: Sequence[type]) -> list[Any]:
    """Return the values of a cursor. Raise `InvalidArgument` BAD_CURSOR for any other text."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        values = parse_json(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (InvalidArgument, binascii.Error, UnicodeError):
        raise _bad_cursor() from None
    if not isinstance(values, list) or len(values) != len(types) + 1 or values[0] != kind:
        raise _bad_cursor()
    # A whole number of seconds is an integer to the parser.
    found = [
        float(value) if wanted is float and type(value) is int else value
        for value, wanted in zip(values[1:], types, strict=True)
    ]
    if any(type(value) is not wanted for value, wanted in zip(found, types, strict=True)):
        raise _bad_cursor()
    return found


def _bad_cursor() -> InvalidArgument:
    return InvalidArgument(
        "BAD_CURSOR",
        "The cursor is none of this listing and order; begin with its first page.",
        field="cursor",
    )
