"""A set of chunk numbers that finds its gaps at memchr's speed.

It costs a page for each range of numbers that has one: what a single high number costs does not
grow with the number.
"""

from __future__ import annotations

from typing import Final

_PAGE: Final = 1024
_OUT, _IN = b"\0", b"\1"


class NumberSet:
    """Numbers from 0 on, one byte each in the pages that have any."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, number: int) -> None:
        page, at = divmod(number, _PAGE)
        bits = self._pages.get(page)
        if bits is None:
            bits = self._pages[page] = bytearray(_PAGE)
        bits[at] = 1

    def discard(self, number: int) -> None:
        page, at = divmod(number, _PAGE)
        bits = self._pages.get(page)
        if bits is not None:
            bits[at] = 0

    def next_in(self, first: int, last: int) -> int | None:
        """The first number of first … last that is in the set."""
        return self._next(_IN, first, last)

    def next_out(self, first: int, last: int) -> int | None:
        """The first number of first … last that is not in the set."""
        return self._next(_OUT, first, last)

    def _next(self, wanted: bytes, first: int, last: int) -> int | None:
        while first <= last:
            page, at = divmod(first, _PAGE)
            bits = self._pages.get(page)
            if bits is not None:
                found = bits.find(wanted, at)
                if found >= 0:
                    number = page * _PAGE + found
                    return number if number <= last else None
            elif wanted == _OUT:
                return first
            first = (page + 1) * _PAGE
        return None
