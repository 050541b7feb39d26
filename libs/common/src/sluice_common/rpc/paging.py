"""Pagination of List RPCs: page_size and page_token."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable

from sluice_core.errors import InvalidArgument

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

_FORMAT = b"\x01"
_DIGEST_BYTES = 8


def page_limit(page_size: int) -> int:
    """Return the number of items: 100 for 0, at most 1,000. Raise BAD_PAGE_SIZE below 0."""
    if page_size < 0:
        raise InvalidArgument(
            "BAD_PAGE_SIZE",
            f"A page has 1 to {MAX_PAGE_SIZE} items, or leave page_size out.",
            field="page_size",
        )
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def encode_page_token(after: str, *listing: str) -> str:
    """Return the token of the page that begins after `after`; empty if there is no next page.

    `listing` holds the other parameters of the request. Their digest is part of the token, so that
    a token of one listing is refused in another.
    """
    if not after:
        return ""
    return base64.urlsafe_b64encode(_FORMAT + _digest(listing) + after.encode()).decode()


def decode_page_token(
    token: str, *listing: str, check: Callable[[str], object] | None = None
) -> str:
    """Return the `after` of a token, empty for the first page. Raise BAD_PAGE_TOKEN.

    `check` raises `InvalidArgument` for an `after` that is impossible in this listing: tokens are
    not signed, so a caller can forge one.
    """
    if not token:
        return ""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        head, after = raw[: 1 + _DIGEST_BYTES], raw[1 + _DIGEST_BYTES :].decode()
        if check is not None:
            check(after)
    except (binascii.Error, ValueError, InvalidArgument) as error:
        raise _bad_token() from error
    if head != _FORMAT + _digest(listing) or not after:
        raise _bad_token()
    return after


def _digest(listing: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\0".join(listing).encode()).digest()[:_DIGEST_BYTES]


def _bad_token() -> InvalidArgument:
    return InvalidArgument(
        "BAD_PAGE_TOKEN",
        "The page token does not belong to this listing; start again without it.",
        field="page_token",
    )
