"""Part names and multipart checks of the built-in object stores. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from sluice_core.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
)
from sluice_core.ports.object_store import PartTag
from sluice_core.uploads.checksums import combined_crc32c
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import MAX_PARTS

_NAME = re.compile(r"(\d{5})-([0-9a-f]{8})-([0-9a-f]+)-([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Part:
    """Stored part; `name` encodes all of its fields."""

    number: int
    size: int
    crc32c: int
    unique: str

    @classmethod
    def new(cls, number: int, size: int, crc32c: int) -> Self:
        """Return a part with a new unique token."""
        return cls(number, size, crc32c, new_token())

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Return the part of this name; None for a name of another form."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        number, crc32c, size, unique = match.groups()
        return cls(int(number), int(size, 16), int(crc32c, 16), unique)

    @property
    def etag(self) -> str:
        return make_etag(self.size, self.crc32c, self.unique)

    @property
    def name(self) -> str:
        return f"{self.number:05d}-{self.etag}"

    @property
    def tag(self) -> PartTag:
        return PartTag(self.number, self.etag, self.size, self.crc32c)


def make_etag(size: int, crc32c: int, unique: str) -> str:
    """Return `<crc32c>-<size>-<unique>`, numbers in hexadecimal; it is not an MD5.

    The token distinguishes two uploads of equal bytes, so that a replaced part is never taken for
    its successor.
    """
    return f"{crc32c:08x}-{size:x}-{unique}"


def size_and_crc32c(parts: Sequence[Part]) -> tuple[int, int]:
    """Return the size and CRC32C of the concatenated parts."""
    return (
        sum(part.size for part in parts),
        combined_crc32c((part.crc32c, part.size) for part in parts),
    )


def check_part_number(number: int) -> None:
    """Raise `InvalidArgument` BAD_PART_NUMBER unless the number is 1 to MAX_PARTS."""
    if not 1 <= number <= MAX_PARTS:
        raise InvalidArgument("BAD_PART_NUMBER", f"Parts count from 1 to {MAX_PARTS}.")


def choose_parts(
    listed: Sequence[PartTag], stored: Mapping[tuple[int, str], Part], min_part_bytes: int
) -> tuple[Part, ...]:
    """Return the stored parts that the caller lists by (number, etag).

    Raise `FailedPrecondition` INVALID_PART when a listed part is not stored, the list is empty or
    not in ascending order; PART_TOO_SMALL when a part before the last is too small.
    """
    numbers = [tag.number for tag in listed]
    if not numbers or any(a >= b for a, b in pairwise(numbers)):
        raise FailedPrecondition("INVALID_PART", "List at least one part, in ascending order.")
    chosen: list[Part] = []
    for tag in listed:
        part = stored.get((tag.number, tag.etag))
        if part is None:
            raise FailedPrecondition(
                "INVALID_PART",
                f"Part {tag.number} is not stored under this ETag; list the parts and store it "
                "again.",
                metadata={"part_number": str(tag.number)},
            )
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < min_part_bytes:
            raise FailedPrecondition(
                "PART_TOO_SMALL",
                f"Part {part.number} has {part.size} bytes; every part but the last needs "
                f"{min_part_bytes}.",
                metadata={"part_number": str(part.number)},
            )
    return tuple(chosen)


def multipart_not_found() -> NotFound:
    return NotFound(
        "MULTIPART_NOT_FOUND",
        "The multipart was completed, aborted or never opened; call `head` to see which.",
    )


def object_not_found() -> NotFound:
    return NotFound("OBJECT_NOT_FOUND", "The object store holds no such object.")


def object_exists() -> AlreadyExists:
    return AlreadyExists(
        "OBJECT_EXISTS",
        "Other bytes are stored under this URL already; ask for a URL of a new object.",
    )


def bucket_not_found(bucket: str) -> NotFound:
    return NotFound(
        "BUCKET_NOT_FOUND",
        "The drive's bucket does not exist; the server's operator has to create it.",
        log_detail=f"bucket {bucket!r}",
    )


def object_damaged() -> DataLoss:
    return DataLoss(
        "OBJECT_DAMAGED",
        "The stored bytes of this object are damaged; restore it from its source.",
    )


def presign_unsupported() -> Unimplemented:
    return Unimplemented(
        "PRESIGN_UNSUPPORTED", "This object store has no presigned URLs; read the node instead."
    )
