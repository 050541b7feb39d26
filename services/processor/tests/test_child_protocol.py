"""The protocol of decoder children; the parent validates every answer."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_processor.images.children import protocol as answers
from sluice_processor.images.children.protocol import PREFIX, InvalidAnswer, decode_answer
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

IMAGE = ProcessedImage(
    ImageFacts(
        ImageFormat.HEIC, 400, 300, 2,
        ExifFacts(taken_at="2024-05-06T07:08:09", f_number=1.4, iso=400, flash_fired=False),
        Gps(1.5, -2.5, direction_degrees=7.0),
    ),
    (
        Thumbnail(256, 256, 192, ThumbnailFormat.WEBP, b"first"),
        Thumbnail(64, 64, 48, ThumbnailFormat.JPEG, b"second"),
    ),
    0.5, 0.25,
)  # fmt: skip
SIZES = (256, 64)


def parts(whole: bytes) -> tuple[bytes, bytes]:
    header, body = PREFIX.unpack_from(whole)
    assert len(whole) == PREFIX.size + header + body
    return whole[PREFIX.size : PREFIX.size + header], whole[PREFIX.size + header :]


def test_answer_survives_round_trip() -> None:
    assert decode_answer(*parts(answers.encode_answer(IMAGE)), SIZES) == IMAGE


@pytest.mark.parametrize("reason", RefusalReason)
def test_a_refusal_is_raised(reason: RefusalReason) -> None:
    with pytest.raises(ImageRefused, match="because") as refused:
        decode_answer(*parts(answers.encode_refusal(ImageRefused(reason, "because"))), SIZES)
    assert refused.value.reason is reason


def test_options_and_requests_survive_round_trip() -> None:
    options = ImageOptions(thumbnail_sizes=(1, 2, 3), thumbnail_format=ThumbnailFormat.JPEG)
    assert answers.decode_options(answers.encode_options(options)) == options
    assert answers.decode_request(answers.encode_request((5, 4))) == [5, 4]
    with pytest.raises(ValueError, match="too many"):
        answers.encode_request(range(5000))


GOOD_HEADER, BODY = parts(answers.encode_answer(IMAGE))
GOOD: dict[str, Any] = json.loads(GOOD_HEADER)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "bmp"},
        {"width": 0},
        {"width": -1},
        {"height": "300"},
        {"frames": True},
        {"frames": 1 << 60},
        {"exif": {"taken_at": 7}},
        {"exif": {"iso": "400"}},
        {"exif": {"flash_fired": 1}},
        {"exif": {"camera_make": "a\nline"}},
        {"exif": {"camera_make": "x" * 5000}},
        {"exif": {"password": "x"}},
        {"exif": []},
        {"gps": {}},
        {"gps": {"latitude": "north", "longitude": 1}},
        {"gps": {"latitude": float("nan"), "longitude": 1}},
        {"thumbnails": []},
        {"thumbnails": [[256, 256, 192, "webp", 5]]},
        {"thumbnails": [[256, 256, 192, "webp", 5], [64, 64, 48, "exe", 6]]},
        {"thumbnails": [[256, 256, 192, "webp", 5], [65, 64, 48, "jpeg", 6]]},
        {"thumbnails": [[256, 256, 192, "webp", -5], [64, 64, 48, "jpeg", 6]]},
        {"thumbnails": [[256, 256, 192, "webp", 50], [64, 64, 48, "jpeg", 6]]},
        {"seconds": [1]},
        {"refused": "BORED", "detail": "x"},
        {"refused": "CORRUPT", "detail": "two\nlines"},
        {"refused": "CORRUPT"},
    ],
)
def test_malformed_answer_is_invalid(change: dict[str, Any]) -> None:
    header = json.dumps({**copy.deepcopy(GOOD), **change}).encode()
    with pytest.raises(InvalidAnswer):
        decode_answer(header, BODY, SIZES)


@given(st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda some: st.lists(some) | (
        st.dictionaries(st.sampled_from(["refused", "detail", *GOOD]), some)
    ), max_leaves=10,
).map(lambda value: json.dumps(value).encode())), st.binary(max_size=20))  # fmt: skip
def test_random_bytes_are_an_invalid_answer(header: bytes, body: bytes) -> None:
    with pytest.raises((InvalidAnswer, ImageRefused)):
        decode_answer(header, body, SIZES)
