"""Hand-written wire encoding, compared with the generated code."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sluice.upload.v1 import upload_pb2
from sluice_client.uploads.frames import Frame, chunk_header, encode

payloads = st.one_of(st.binary(max_size=300), st.integers(0, 40_000).map(bytes))
headers = st.builds(
    chunk_header,
    st.text(max_size=40),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.integers(0, 2**32 - 1),
    is_last=st.booleans(),
)


@given(headers | st.just(b""), payloads)
def test_frame_equals_the_generated_message(header: bytes, data: bytes) -> None:
    expected = upload_pb2.UploadStreamRequest(data=data)
    if header:
        expected.header.ParseFromString(header)
    wire = encode(Frame(header, memoryview(data)))
    assert upload_pb2.UploadStreamRequest.FromString(wire) == expected
    assert wire == expected.SerializeToString()


@given(payloads)
def test_kind_of_buffer_makes_no_difference(data: bytes) -> None:
    wires = {encode(Frame(b"", kind(data))) for kind in (bytes, bytearray, memoryview)}
    assert len(wires) == 1


def test_header_carries_everything_that_the_server_checks() -> None:
    header = upload_pb2.ChunkHeader.FromString(chunk_header("u-1", 7, 5, 0, is_last=True))
    assert (header.upload_id, header.number, header.size, header.is_last) == ("u-1", 7, 5, True)
    assert header.HasField("crc32c"), "a CRC32C of zero is a claim, not the lack of one"
