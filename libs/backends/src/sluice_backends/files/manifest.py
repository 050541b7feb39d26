"""Manifest of an object: the file that lists its parts. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from sluice_core.errors import DataLoss
from sluice_core.objects.parts import Part, make_etag, size_and_crc32c
from sluice_core.ports.object_store import ObjectAttributes, ObjectInfo
from sluice_core.uploads.model import FORMAT_VERSION, ObjectRef


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes start … stop − 1 of a part."""

    part: Part
    start: int
    stop: int

    @property
    def is_whole_part(self) -> bool:
        return self.start == 0 and self.stop == self.part.size


@dataclass(frozen=True, slots=True)
class Manifest:
    """Object: its parts in order, and the folder (`generation`) that contains them."""

    ref: ObjectRef
    generation: str
    attributes: ObjectAttributes
    parts: tuple[Part, ...]
    size: int
    crc32c: int

    @classmethod
    def of(
        cls,
        ref: ObjectRef,
        generation: str,
        attributes: ObjectAttributes,
        parts: Sequence[Part],
    ) -> Self:
        size, crc32c = size_and_crc32c(parts)
        return cls(ref, generation, attributes, tuple(parts), size, crc32c)

    @property
    def info(self) -> ObjectInfo:
        etag = make_etag(self.size, self.crc32c, self.generation)
        return ObjectInfo(
            self.ref,
            self.size,
            etag,
            self.crc32c,
            self.attributes.content_type,
            self.attributes.metadata,
        )

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Yield the pieces of parts that make up `length` bytes from `offset`; none is empty."""
        end = min(self.size, offset + length)
        begin = 0
        for part in self.parts:
            start, stop = max(offset - begin, 0), min(end - begin, part.size)
            if start < stop:
                yield Piece(part, start, stop)
            begin += part.size
            if begin >= end:
                return

    def to_json(self) -> bytes:
        return json.dumps(
            {
                "format": FORMAT_VERSION,
                "bucket": self.ref.bucket,
                "key": self.ref.key,
                "generation": self.generation,
                "attributes": asdict(self.attributes),
                "size": self.size,
                "crc32c": self.crc32c,
                "etag": self.info.etag,
                "parts": [
                    {"number": p.number, "size": p.size, "crc32c": p.crc32c, "unique": p.unique}
                    for p in self.parts
                ],
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return the inverse of `to_json`; raise `DataLoss` MANIFEST_DAMAGED for other data."""
        try:
            fields = _fields(data)
            manifest = cls.of(
                ObjectRef(fields["bucket"], fields["key"]),
                fields["generation"],
                ObjectAttributes(**fields["attributes"]),
                [Part(**part) for part in fields["parts"]],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged() from error
        if (manifest.size, manifest.crc32c) != (fields["size"], fields["crc32c"]):
            raise _damaged()
        return manifest


def attributes_to_json(attributes: ObjectAttributes) -> bytes:
    """Return the attributes that an open multipart stores until its completion."""
    return json.dumps({"format": FORMAT_VERSION, "attributes": asdict(attributes)}).encode()


def attributes_from_json(data: bytes) -> ObjectAttributes:
    """Return the inverse of `attributes_to_json`; raise `DataLoss` MANIFEST_DAMAGED."""
    try:
        return ObjectAttributes(**_fields(data)["attributes"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged() from error


def _fields(data: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(data)
    if fields["format"] != FORMAT_VERSION:
        raise ValueError(fields["format"])
    return fields


def _damaged() -> DataLoss:
    return DataLoss(
        "MANIFEST_DAMAGED",
        "The stored description of this object cannot be read; restore it from a backup.",
    )
