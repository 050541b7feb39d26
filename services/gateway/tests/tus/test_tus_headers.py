"""Headers of tus, cut bodies and targets, without a server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from sluice_core.errors import SluiceError
from sluice_core.uploads.partial import CONCAT_KEY
from sluice_gateway.tus import headers as tus_headers
from sluice_gateway.tus.headers import Concat
from sluice_gateway.tus.pieces import BodyBrokenOff, pieces
from sluice_gateway.tus.targets import target_of

_KEYS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=1
)


def metadata_of(text: str) -> dict[str, str]:
    return tus_headers.upload_metadata(Headers({"upload-metadata": text}))


@given(st.dictionaries(_KEYS, st.text()))
def test_metadata_survives_a_round_trip(metadata: dict[str, str]) -> None:
    assert metadata_of(tus_headers.encode_metadata(metadata)) == metadata


def test_metadata_takes_what_clients_send() -> None:
    assert metadata_of("filename YS5qcGc=, filetype aW1hZ2UvanBlZw==,private") == {
        "filename": "a.jpg",
        "filetype": "image/jpeg",
        "private": "",
    }
    assert metadata_of("") == {}


@pytest.mark.parametrize(
    "text",
    [
        "filename YS5qcGc",  # padding
        "filename YS5q cGc=",
        "filename YS5qcGc=,filename YS5qcGc=",
        "filename  YS5qcGc=",
        "filename YS5qcGc=,",
        ",",
        "filename \N{LATIN SMALL LETTER E WITH ACUTE}",
        "fil\N{LATIN SMALL LETTER E WITH ACUTE} YS5qcGc=",
        "filename /w==",  # no UTF-8
        "filename -_==",
        "filename *",
    ],
)
def test_malformed_metadata_is_refused(text: str) -> None:
    with pytest.raises(SluiceError) as caught:
        metadata_of(text)
    assert caught.value.reason == "BAD_TUS_HEADER"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("partial", Concat()),
        ("final;/files/a /files/b", Concat(("a", "b"))),
        ("final; https://x.example/files/a  /files/a", Concat(("a", "a"))),
    ],
)
def test_concat_is_read(text: str, expected: Concat) -> None:
    assert tus_headers.upload_concat(Headers({"upload-concat": text})) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "final",
        "final;",
        "final; ",
        "Partial",
        "final;/files/",
        "final;/other/a",
        "final;a",
        "final;/files/a/../b",
        "final;/files/a,/files/b",
        "final;http://[/files/a",
        "partial;/files/a",
        "final;" + " ".join(["/files/a"] * 101),
    ],
)
def test_malformed_concat_is_refused(text: str) -> None:
    with pytest.raises(SluiceError) as caught:
        tus_headers.upload_concat(Headers({"upload-concat": text}))
    assert caught.value.reason == "BAD_TUS_HEADER"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_checksum_is_read(algorithm: str) -> None:
    digest = hashlib.new(algorithm, b"x").digest()
    text = f"{algorithm} {base64.b64encode(digest).decode()}"
    found = tus_headers.upload_checksum(Headers({"upload-checksum": text}))
    assert found is not None
    hashed = found.new_hash()
    hashed.update(b"x")
    assert hashed.digest() == found.digest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("crc32 AAAA", "CHECKSUM_ALGORITHM_UNSUPPORTED"),
        ("", "CHECKSUM_ALGORITHM_UNSUPPORTED"),
        ("sha1", "BAD_TUS_HEADER"),
        ("sha1 AAAA", "BAD_TUS_HEADER"),
        ("sha1 !", "BAD_TUS_HEADER"),
    ],
)
def test_malformed_checksum_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SluiceError) as caught:
        tus_headers.upload_checksum(Headers({"upload-checksum": text}))
    assert caught.value.reason == reason


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "0x1", "1 ", "１", "9" * 20])
def test_malformed_numbers_are_refused(text: str) -> None:
    with pytest.raises(SluiceError) as caught:
        tus_headers.upload_offset(Headers(raw=[(b"upload-offset", text.encode("utf-8"))]))
    assert caught.value.reason == "BAD_TUS_HEADER"


async def blocks_of(blocks: Sequence[bytes], *, broken: bool) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block
    if broken:
        raise ClientDisconnect


@given(st.lists(st.binary(max_size=20)), st.integers(0, 100), st.integers(1, 9), st.booleans())
async def test_pieces_end_at_multiples(
    blocks: list[bytes], offset: int, piece_bytes: int, broken: bool
) -> None:
    """Whatever the blocks: the same bytes, and boundaries by the offset alone."""
    cut: list[bytes] = []
    with pytest.raises(BodyBrokenOff) if broken else nullcontext():
        async for piece in pieces(blocks_of(blocks, broken=broken), offset, piece_bytes):
            cut += [piece]
    assert b"".join(cut) == b"".join(blocks)
    assert all(cut)
    ends = offset
    for piece in cut[:-1]:
        ends += len(piece)
        assert ends % piece_bytes == 0
        assert len(piece) <= piece_bytes


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({}, "0f/upload"),
        ({"filename": "a.jpg"}, "0f/a.jpg"),
        ({"filename": "a.jpg", "jobId": "job_1"}, "job_1/0f/a.jpg"),
        ({"filename": "a.jpg", "path": "x/b.jpg", "jobId": "job_1"}, "x/b.jpg"),
    ],
)
def test_path_follows_from_the_metadata(metadata: dict[str, str], path: str) -> None:
    target = target_of(metadata, None, "0f", "photos")
    assert (target.drive, target.path, target.attributes) == ("photos", path, metadata)


def test_drive_and_type_follow_from_the_metadata() -> None:
    target = target_of({"drive": "films", "filetype": "video/mp4"}, None, "0f", "photos")
    assert (target.drive, target.content_type) == ("films", "video/mp4")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"filename": "../a"}, "BAD_FILENAME"),
        ({"filename": "a\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe"}, "BAD_FILENAME"),
        ({"filename": "a\0"}, "BAD_FILENAME"),
        ({"jobId": "a/b"}, "BAD_JOB_ID"),
        ({CONCAT_KEY: "partial"}, "BAD_TUS_HEADER"),
    ],
)
def test_target_refuses_bad_metadata(metadata: dict[str, str], reason: str) -> None:
    with pytest.raises(SluiceError) as caught:
        target_of(metadata, None, "0f", "photos")
    assert caught.value.reason == reason
