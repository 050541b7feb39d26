"""Set of chunk numbers with a fast search for gaps."""

from __future__ import annotations

from typing import Final

_PAGE: Final = 1024
_OUT, _IN = b"\0", b"\1"


class NumberSet:
    """Set of numbers from 0; finds gaps at the speed of memchr.

    One byte per number, in pages that exist only for ranges with a member. The cost of a single
    number is one page, however high the number is.
    """

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
        """Return the first number of first … last that is in the set."""
        return self._next(_IN, first, last)

    def next_out(self, first: int, last: int) -> int | None:
        """Return the first number of first … last that is not in the set."""
        return self._next(_OUT, first, last)

    def _next(self, value: bytes, first: int, last: int) -> int | None:
        while first <= last:
            page, at = divmod(first, _PAGE)
            bits = self._pages.get(page)
            if bits is not None:
                index = bits.find(value, at)
                if index >= 0:
                    number = page * _PAGE + index
                    return number if number <= last else None
            elif value == _OUT:
                return first
            first = (page + 1) * _PAGE
        return None
