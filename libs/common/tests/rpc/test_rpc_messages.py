"""One message under its limit: inflated, parsed, or refused with a typed error."""

from __future__ import annotations

import gzip
import zlib

import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_common.rpc.messages import ENVELOPE_BYTES, inflate, parse_message, request_format
from sluice_core.errors import InvalidArgument, ResourceExhausted

LARGE = 1024 * 1024
"""A limit above which messages are inflated in a thread."""
REQUEST = pb.GetUploadStatusRequest(upload_id="an-upload").SerializeToString()


@pytest.mark.parametrize("max_bytes", [ENVELOPE_BYTES, LARGE])
@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
async def test_a_compressed_message_is_inflated(compress: object, max_bytes: int) -> None:
    assert callable(compress)
    for plain in (b"", REQUEST, REQUEST * 900):
        assert await inflate(compress(plain), max_bytes) == plain


@pytest.mark.parametrize("max_bytes", [ENVELOPE_BYTES, LARGE])
@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
async def test_inflating_stops_at_the_limit(compress: object, max_bytes: int) -> None:
    assert callable(compress)
    assert len(await inflate(compress(bytes(max_bytes)), max_bytes)) == max_bytes
    with pytest.raises(ResourceExhausted, match="MESSAGE_TOO_LARGE"):
        await inflate(compress(bytes(max_bytes + 1)), max_bytes)


@pytest.mark.parametrize(
    "wire",
    [
        gzip.compress(REQUEST)[:-1],
        gzip.compress(REQUEST) + b"\0",
        gzip.compress(REQUEST)[:-5] + b"\xff\xff\xff\xff\xff",
        b"\x1f\x8b",
    ],
    ids=["cut short", "longer", "another checksum", "no header"],
)
async def test_damaged_gzip_is_malformed(wire: bytes) -> None:
    with pytest.raises(InvalidArgument, match="MALFORMED_MESSAGE"):
        await inflate(wire, ENVELOPE_BYTES)


@pytest.mark.parametrize(
    "wire", [b"", b"\x78", b"\x78\x01", b"\x78\x9c\x0a\x02ok", zlib.compress(REQUEST)[:-1], b"\x1f"]
)
async def test_a_message_that_only_begins_like_zlib_is_kept(wire: bytes) -> None:
    """Field 15 has the tag 0x78: a message may begin with it and is not compressed then."""
    assert await inflate(wire, ENVELOPE_BYTES) == wire


def test_unknown_fields_are_discarded() -> None:
    padded = REQUEST + b"\x7a\x04junk"
    message = parse_message(pb.GetUploadStatusRequest.FromString, padded)
    assert message.SerializeToString() == REQUEST


@pytest.mark.parametrize("wire", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x08", b"\x0a\x7f"])
def test_bytes_that_are_no_message_are_malformed(wire: bytes) -> None:
    with pytest.raises(InvalidArgument, match="MALFORMED_MESSAGE") as refused:
        parse_message(pb.GetUploadStatusRequest.FromString, wire)
    assert refused.value.__suppress_context__


def test_an_ordinary_method_takes_64_kib() -> None:
    assert request_format(pb.GetUploadStatusRequest.FromString).max_bytes == 64 * 1024
