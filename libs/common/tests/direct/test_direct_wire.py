"""Wire bytes of the direct transport match the .proto; whole blocks are not copied."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sluice.repository.v1.chunk_sink_pb2 import PutChunksRequest
from sluice.upload.v1.upload_pb2 import ChunkHeader, UploadStreamRequest
from sluice_common.direct.wire import encode_block, encode_first_block
from sluice_common.rpc.frames import read_stream_frame
from sluice_core.ports import ChunkOffer

BLOCKS = st.binary(min_size=1, max_size=300)


@given(st.integers(0, 2**40), st.integers(0, 2**26), st.booleans(), st.binary(max_size=300))
def test_what_opens_a_chunk_is_what_the_generated_parser_reads(
    number: int, size: int, is_last: bool, first: bytes
) -> None:
    wire = encode_first_block(
        ChunkOffer("n1-upload", number, size, "token", is_last), memoryview(first)
    )
    message = PutChunksRequest.FromString(wire)
    header = ChunkHeader(upload_id="n1-upload", number=number, size=size, is_last=is_last)
    assert (message.header, message.data) == (header, first)


@given(BLOCKS)
def test_a_block_is_what_the_generated_parser_reads(block: bytes) -> None:
    for given_as in (block, memoryview(block), memoryview(bytearray(block))):
        assert PutChunksRequest.FromString(encode_block(given_as)) == PutChunksRequest(data=block)


@given(BLOCKS)
def test_a_block_that_came_alone_is_forwarded_without_a_copy(block: bytes) -> None:
    wire = UploadStreamRequest(data=block).SerializeToString()
    assert encode_block(read_stream_frame(wire).data) is wire


@given(BLOCKS)
def test_block_received_with_header_is_forwarded_alone(block: bytes) -> None:
    wire = UploadStreamRequest(header=ChunkHeader(number=1), data=block).SerializeToString()
    message = PutChunksRequest.FromString(encode_block(read_stream_frame(wire).data))
    assert message == PutChunksRequest(data=block)


@given(st.binary(min_size=2, max_size=300), st.data())
def test_a_part_of_a_message_is_forwarded_as_that_part(block: bytes, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(block) - 1))
    last = data.draw(st.integers(first + 1, len(block)))
    view = read_stream_frame(UploadStreamRequest(data=block).SerializeToString()).data[first:last]
    assert PutChunksRequest.FromString(encode_block(view)).data == block[first:last]
