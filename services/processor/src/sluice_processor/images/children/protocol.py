"""Messages between the processor and a decoder child.

A request is JSON plus the picture's descriptor; an answer is `PREFIX`, JSON and thumbnails."""

# Import no decoder: the parent imports this module, and only its children hold the decoders.

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any, Final, TypeVar

from sluice_processor.images.model import (
    ExifFacts,
    Gps,
    ImageFacts,
    ImageFormat,
    ImageOptions,
    ImageRefused,
    ProcessedImage,
    RefusalReason,
    Thumbnail,
    ThumbnailFormat,
)

READY: Final = b"ready"
"""Sent by a child that can decode."""
MAX_REQUEST_BYTES: Final = 4096
PREFIX: Final = struct.Struct("!II")
"""Length of the header and of the thumbnails, in bytes."""
_MAX_TEXT: Final = 512

Facts = TypeVar("Facts", ExifFacts, Gps)


class InvalidAnswer(Exception):
    """The child's answer violates the protocol."""


def encode_options(options: ImageOptions) -> str:
    names = ImageOptions.__dataclass_fields__
    return json.dumps({name: getattr(options, name) for name in names})


def decode_options(text: str) -> ImageOptions:
    values: dict[str, Any] = json.loads(text)
    values["thumbnail_sizes"] = tuple(values["thumbnail_sizes"])
    values["thumbnail_format"] = ThumbnailFormat(values["thumbnail_format"])
    return ImageOptions(**values)


def encode_request(sizes: Sequence[int]) -> bytes:
    request = json.dumps(list(sizes)).encode()
    if len(request) > MAX_REQUEST_BYTES:
        raise ValueError("too many thumbnail sizes for one request; ask for fewer")
    return request


def decode_request(request: bytes) -> list[int]:
    return [int(size) for size in json.loads(request)]


def encode_refusal(refused: ImageRefused) -> bytes:
    header = json.dumps({"refused": refused.reason.value, "detail": refused.detail}).encode()
    return PREFIX.pack(len(header), 0) + header


def encode_answer(image: ProcessedImage) -> bytes:
    facts = image.facts
    header = json.dumps(
        {
            "format": facts.format,
            "width": facts.width,
            "height": facts.height,
            "frames": facts.frames,
            "damaged": facts.damaged,
            "exif": facts.exif.to_json(),
            "gps": None if facts.gps is None else asdict(facts.gps),
            "thumbnails": [
                [made.size, made.width, made.height, made.format, len(made.data)]
                for made in image.thumbnails
            ],
            "seconds": [image.decode_seconds, image.thumbnail_seconds],
        }
    ).encode()
    body = b"".join(made.data for made in image.thumbnails)
    return PREFIX.pack(len(header), len(body)) + header + body


def decode_answer(header: bytes, body: bytes, sizes: Sequence[int]) -> ProcessedImage:
    """Return the picture in an answer.

    Every value is validated: a child that has read a hostile picture may be compromised.

    Raise `ImageRefused` when the child refused the picture, `InvalidAnswer` for anything else.
    """
    try:
        answer = json.loads(header)
        if "refused" in answer:
            raise ImageRefused(RefusalReason(answer["refused"]), _text(answer["detail"]))
        return _image(answer, body, sizes)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidAnswer(type(error).__name__) from None


def _image(answer: dict[str, Any], body: bytes, sizes: Sequence[int]) -> ProcessedImage:
    made: list[Thumbnail] = []
    at = 0
    for size, width, height, kind, length in answer["thumbnails"]:
        data = body[at : at + _count(length)]
        at += length
        made.append(
            Thumbnail(_count(size), _count(width), _count(height), ThumbnailFormat(kind), data)
        )
    if at != len(body) or [one.size for one in made] != list(sizes):
        raise ValueError("thumbnails")
    facts = ImageFacts(
        ImageFormat(answer["format"]),
        _count(answer["width"]),
        _count(answer["height"]),
        _count(answer["frames"]),
        _facts(ExifFacts, answer["exif"]),
        None if answer["gps"] is None else _facts(Gps, answer["gps"]),
        damaged=_flag(answer["damaged"]),
    )
    decode, scale = (_number(seconds) for seconds in answer["seconds"])
    return ProcessedImage(facts, tuple(made), decode, scale)


def _facts(kind: type[Facts], given: dict[str, Any]) -> Facts:
    """Build facts from a JSON object; raise for unknown fields and values of the wrong type."""
    types = {field.name: str(field.type).partition(" ")[0] for field in fields(kind)}
    for name, value in given.items():
        if value is not None:
            _CHECKS[types[name]](value)
    return kind(**given)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise ValueError("not a text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a number")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 53:
        raise ValueError("not a count")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "str": _text,
    "float": _number,
    "int": _count,
    "bool": _flag,
}
