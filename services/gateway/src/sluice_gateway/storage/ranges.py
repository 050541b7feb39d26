"""Conditions and byte ranges of downloads (RFC 9110, 13 and 14). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_RANGE: Final = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.IGNORECASE)
_ETAG: Final = re.compile(r'(W/)?"([^"]*)"')


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes start … stop − 1 of an object."""

    start: int
    stop: int

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.stop - 1}/{size}"


class Unsatisfiable:
    """A range with no byte of the object."""


UNSATISFIABLE: Final = Unsatisfiable()


class Condition(StrEnum):
    """What the conditional headers of a request come to."""

    MET = "MET"
    FAILED = "FAILED"
    """If-Match names other ETags: 412."""
    NOT_MODIFIED = "NOT_MODIFIED"
    """If-None-Match names this one: 304."""


def requested_range(header: str | None, size: int) -> ByteRange | Unsatisfiable | None:
    """Return the range to send; None for the whole object.

    A server may ignore Range, and does for several ranges and for malformed ones (14.2).
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":  # the last bytes
        length = int(match[2])
        return ByteRange(max(size - length, 0), size) if length and size else UNSATISFIABLE
    start = int(match[1])
    stop = size if match[2] == "" else min(int(match[2]) + 1, size)
    if match[2] != "" and int(match[2]) < start:
        return None  # malformed
    return ByteRange(start, stop) if start < size else UNSATISFIABLE


def evaluate(etag: str, *, if_match: str | None, if_none_match: str | None) -> Condition:
    """Evaluate conditions in the order of 13.2.2.

    Args:
        etag: the object's, strong, without quotes.
    """
    if if_match is not None and not _names(if_match, etag, weak=False):
        return Condition.FAILED
    if if_none_match is not None and _names(if_none_match, etag, weak=True):
        return Condition.NOT_MODIFIED
    return Condition.MET


def range_applies(if_range: str | None, etag: str) -> bool:
    """Return whether Range counts: an If-Range has to name this very object.

    A date never does: objects have no modification time.
    """
    return if_range is None or if_range.strip() == f'"{etag}"'


def _names(header: str, etag: str, *, weak: bool) -> bool:
    """Return whether a list of ETags has this one; a strong comparison skips weak ones."""
    if header.strip() == "*":
        return True
    return any(match[2] == etag and (weak or match[1] is None) for match in _ETAG.finditer(header))
