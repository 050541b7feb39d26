"""Division of a photo into parts. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from sluice_core.errors import InvalidArgument
from sluice_core.uploads.model import DEFAULT_PART_BYTES, MIB, MIN_PART_BYTES

MAX_SINGLE_PUT_BYTES: Final = MIN_PART_BYTES
"""Larger photos are sent in parts, which can be repeated one by one."""
MAX_PART_URLS: Final = 1000
"""Parts of a photo, so that one answer can hold the URLs of all of them."""


@dataclass(frozen=True, slots=True)
class PartPlan:
    """Parts of a photo of `size` bytes: all of `part_bytes`, except for the last one."""

    size: int
    part_bytes: int

    @property
    def count(self) -> int:
        return -(-self.size // self.part_bytes)

    @property
    def numbers(self) -> range:
        return range(1, self.count + 1)

    def size_of(self, number: int) -> int:
        """Return the bytes of a part of the plan."""
        return min(self.part_bytes, self.size - (number - 1) * self.part_bytes)

    def check_number(self, number: int, field: str) -> int:
        """Return the number. Raise `InvalidArgument` BAD_PART_NUMBER if it is not in the plan."""
        if number not in self.numbers:
            raise InvalidArgument(
                "BAD_PART_NUMBER",
                f"The photo has parts 1 to {self.count}; send one of these numbers, once.",
                field=field,
            )
        return number


def is_multipart(size: int) -> bool:
    """Return whether a photo of this size is sent in parts."""
    return size > MAX_SINGLE_PUT_BYTES


def plan_parts(size: int) -> PartPlan:
    """Return the plan for a photo; it depends on nothing else, so that it is stored nowhere."""
    least = -(-size // MAX_PART_URLS)
    return PartPlan(size, max(DEFAULT_PART_BYTES, -(-least // MIB) * MIB))


def describe_numbers(numbers: Collection[int]) -> str:
    """Return part numbers in a short form, such as `1-3,7`."""
    return ",".join(_runs(sorted(numbers)))


def _runs(numbers: Iterable[int]) -> Iterable[str]:
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        first, last = members[0], members[-1]
        yield str(first) if first == last else f"{first}-{last}"
