"""The frame reader agrees with the generated parser on every message, well-formed or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sluice.upload.v1 import upload_pb2
from sluice_common.rpc.frames import (
    MAX_FIELDS,
    Frame,
    Header,
    read_chunk_frame,
    read_initiate_request,
    read_stream_frame,
)
from sluice_core.errors import SluiceError


def varint(value: int, padding: int = 0) -> bytes:
    """Encode `value` as a varint with `padding` redundant bytes."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    for _ in range(padding):
        encoded[-1] |= 0x80
        encoded.append(0)
    return bytes(encoded)


def field(number: int, wire_type: int, value: bytes) -> bytes:
    return varint(number << 3 | wire_type) + value


def delimited(number: int, value: bytes) -> bytes:
    return field(number, 2, varint(len(value)) + value)


NUMBERS = st.integers(0, 7) | st.sampled_from([15, 16, 1000, 2**29 - 1, 2**29])
VARINTS = st.builds(varint, st.integers(0, 2**64 - 1), st.integers(0, 10))
SCALARS = st.one_of(
    st.builds(lambda n, v: field(n, 0, v), NUMBERS, VARINTS),
    st.builds(lambda n, v: field(n, 1, v), NUMBERS, st.binary(min_size=8, max_size=8)),
    st.builds(lambda n, v: field(n, 5, v), NUMBERS, st.binary(min_size=4, max_size=4)),
    st.builds(delimited, NUMBERS, st.binary(max_size=40)),
)
ANY_FIELD = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(
            lambda n, fields: field(n, 3, b"".join(fields) + field(n, 4, b"")),
            NUMBERS,
            st.lists(inner, max_size=3),
        ),
        st.builds(lambda n, fields: delimited(n, b"".join(fields)), NUMBERS, st.lists(inner)),
    ),
    max_leaves=6,
)
HEADERS = st.builds(
    upload_pb2.ChunkHeader,
    upload_id=st.text(max_size=8),
    number=st.integers(-(2**63), 2**63 - 1),
    size=st.integers(-(2**63), 2**63 - 1),
    crc32c=st.none() | st.integers(0, 2**32 - 1),
    is_last=st.booleans(),
    force=st.booleans(),
)
STREAM_FIELDS = st.one_of(
    HEADERS.map(lambda header: delimited(1, header.SerializeToString())),
    st.binary(max_size=300).map(lambda data: delimited(2, data)),
    ANY_FIELD,
)
CHUNK_MESSAGES = st.builds(
    upload_pb2.UploadChunkRequest,
    upload_id=st.text(max_size=8),
    number=st.integers(-(2**63), 2**63 - 1),
    data=st.binary(max_size=300),
    crc32c=st.none() | st.integers(0, 2**32 - 1),
    is_last=st.booleans(),
    force=st.booleans(),
)
CHUNK_FIELDS = CHUNK_MESSAGES.map(lambda message: message.SerializeToString()) | ANY_FIELD


def wires(fields: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Generate messages with any fields in any order, truncated ones, and garbage."""
    whole = st.lists(fields, max_size=6).map(b"".join)
    cut = st.builds(lambda wire, keep: wire[: int(len(wire) * keep)], whole, st.floats(0, 1))
    return whole | cut | st.builds(bytes.__add__, whole, st.binary(max_size=12))


def expected_stream_frame(wire: bytes) -> tuple[Header | None, bytes] | None:
    try:
        message = upload_pb2.UploadStreamRequest.FromString(wire)
    except DecodeError:
        return None
    if not message.HasField("header"):
        return None, message.data
    header = message.header
    return (
        Header(
            header.upload_id,
            header.number,
            header.size,
            header.crc32c if header.HasField("crc32c") else None,
            header.is_last,
            header.force,
        ),
        message.data,
    )


def expected_chunk_frame(wire: bytes) -> tuple[Header | None, bytes] | None:
    try:
        message = upload_pb2.UploadChunkRequest.FromString(wire)
    except DecodeError:
        return None
    return (
        Header(
            message.upload_id,
            message.number,
            len(message.data),
            message.crc32c if message.HasField("crc32c") else None,
            message.is_last,
            message.force,
        ),
        message.data,
    )


def content(frame: Frame) -> tuple[Header | None, bytes] | None:
    if frame.error is not None:
        assert frame.error.reason == "MALFORMED_MESSAGE"
        return None
    return frame.header, bytes(frame.data)


@pytest.mark.no_cover
@settings(max_examples=600)
@given(wires(STREAM_FIELDS))
@example(b"")
@example(b"\x12")
@example(b"\x12\x05abc")
@example(b"\x12\x80\x80\x80\x80\x10")
@example(b"\x12\x80\x80\x80\x80\x80\x00")
@example(delimited(2, b"first") + delimited(2, b"last"))
@example(field(3, 3, b"") * 100 + field(3, 4, b"") * 100)
@example(field(3, 3, b"") * 101 + field(3, 4, b"") * 101)
@example(field(3, 3, b"") + field(4, 4, b""))
@example(field(2, 4, b""))
@example(field(0, 0, b"\0"))
@example(field(9, 3, field(0, 0, b"\0") + field(9, 4, b"")))
@example(field(2, 6, b""))
@example(delimited(1, b"\x0a\x02\xff\xfe"))
def test_a_stream_frame_reads_as_the_generated_parser_reads_it(wire: bytes) -> None:
    assert content(read_stream_frame(wire)) == expected_stream_frame(wire)


@pytest.mark.no_cover
@settings(max_examples=400)
@given(wires(CHUNK_FIELDS))
@example(b"")
@example(delimited(3, b"first") + delimited(3, b"last"))
def test_a_chunk_frame_reads_as_the_generated_parser_reads_it(wire: bytes) -> None:
    assert content(read_chunk_frame(wire)) == expected_chunk_frame(wire)


@given(st.lists(HEADERS, min_size=1, max_size=4))
def test_repeated_headers_merge(headers: list[upload_pb2.ChunkHeader]) -> None:
    merged = upload_pb2.ChunkHeader()
    for header in headers:
        merged.MergeFrom(header)
    wire = b"".join(delimited(1, header.SerializeToString()) for header in headers)
    frame = read_stream_frame(wire)
    assert frame.header is not None
    assert (frame.header.upload_id, frame.header.number) == (merged.upload_id, merged.number)
    assert frame.header.size == merged.size


@pytest.mark.parametrize("prefix", [b"", delimited(1, b"\x10\x01"), field(9, 0, b"\x01")])
def test_the_block_is_a_view_of_the_wire_bytes(prefix: bytes) -> None:
    wire = prefix + delimited(2, b"x" * 100_000)
    assert read_stream_frame(wire).data.obj is wire


@pytest.mark.parametrize(
    "flood",
    [
        b"\x18\0" * (MAX_FIELDS + 1),
        delimited(7, b"") * (MAX_FIELDS + 1),
        field(3, 3, b"\x20\0" * (MAX_FIELDS + 1) + field(3, 4, b"")),
        field(3, 3, field(3, 4, b"")) * (MAX_FIELDS + 1),
        b"\x18\0" * 4_000_000,
    ],
)
@pytest.mark.parametrize("data_tag", [2, 3])
def test_a_flood_of_fields_is_refused_at_its_bound(flood: bytes, data_tag: int) -> None:
    """Regardless of the message size: the walk ends at the limit."""
    read = read_stream_frame if data_tag == 2 else read_chunk_frame
    flood = flood.replace(b"\x18", b"\x78") if data_tag == 3 else flood
    frame = read(flood)
    assert frame.error is not None
    assert frame.error.reason in ("TOO_MANY_FIELDS", "MALFORMED_MESSAGE")
    if flood[:1] in (b"\x18", b"\x78"):
        assert frame.error.reason == "TOO_MANY_FIELDS"


def test_as_many_fields_as_allowed_are_read() -> None:
    wire = b"\x18\0" * (MAX_FIELDS - 1) + delimited(2, b"data")
    frame = read_stream_frame(wire)
    assert (frame.error, bytes(frame.data)) == (None, b"data")


@pytest.mark.parametrize("read", [read_stream_frame, read_chunk_frame])
def test_much_beside_the_payload_is_too_large(read: Callable[[bytes], Frame]) -> None:
    frame = read(delimited(9, bytes(64 * 1024)))
    assert frame.error is not None
    assert frame.error.reason == "MESSAGE_TOO_LARGE"


def initiate(**fields: object) -> upload_pb2.InitiateUploadRequest:
    return upload_pb2.InitiateUploadRequest(drive="d", path="p", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "request_", [initiate(), initiate(inline_data=b""), initiate(inline_data=b"x" * 100_000)]
)
def test_an_initiate_request_reads_as_it_was_sent(
    request_: upload_pb2.InitiateUploadRequest,
) -> None:
    """Absent and empty inline data differ: empty data creates an empty node."""
    assert read_initiate_request(request_.SerializeToString()) == request_


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"\x0a\x02\xff\xfe", "MALFORMED_MESSAGE"),
        (b"\x5a\x7f", "MALFORMED_MESSAGE"),
        (b"\x42\x00" * (MAX_FIELDS + 1), "TOO_MANY_FIELDS"),
        (delimited(8, b"\x0a\x00" * 40_000), "MESSAGE_TOO_LARGE"),
    ],
)
def test_a_bad_initiate_request_is_refused_unparsed(wire: bytes, reason: str) -> None:
    with pytest.raises(SluiceError) as refused:
        read_initiate_request(wire)
    assert refused.value.reason == reason
