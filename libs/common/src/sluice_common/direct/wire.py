"""PutChunksRequest as wire bytes, without a protobuf object around the payload.

The message has the shape of UploadStreamRequest. What a client sent as one block in a message of
its own is therefore forwarded as it came, without a copy of ours; any other block is copied once,
into the bytes that gRPC takes. The .proto stays the truth: a property test holds these bytes
against the generated parser.
"""

from __future__ import annotations

from typing import Final

from sluice.repository.v1 import chunk_sink_pb2
from sluice.upload.v1 import upload_pb2
from sluice_core.ports import Block, ChunkOffer

_DELIMITED: Final = 2
_HEADER_TAG: Final = bytes([chunk_sink_pb2.PutChunksRequest.HEADER_FIELD_NUMBER << 3 | _DELIMITED])
_DATA_TAG: Final = bytes([chunk_sink_pb2.PutChunksRequest.DATA_FIELD_NUMBER << 3 | _DELIMITED])


def opening(offer: ChunkOffer, first: Block) -> bytes:
    """The message that opens a chunk; its first block goes along (none for an empty chunk)."""
    header = upload_pb2.ChunkHeader(
        upload_id=offer.upload_id, number=offer.number, size=offer.size, is_last=offer.is_last
    ).SerializeToString()
    pieces: list[Block] = [_HEADER_TAG, _varint(len(header)), header]
    if len(first):
        pieces += (_DATA_TAG, _varint(len(first)), first)
    return b"".join(pieces)


def following(block: Block) -> bytes:
    """The message of one more block."""
    prefix = _DATA_TAG + _varint(len(block))
    if isinstance(block, memoryview):
        message = block.obj
        # The reader of frames (rpc/frames.py) gives a view of the message that the block came in.
        # When that held nothing else, the view is all of it but its tag and its length.
        if (
            isinstance(message, bytes)
            and len(message) == len(prefix) + len(block)
            and message.startswith(prefix)
        ):
            return message
    return b"".join((prefix, block))


def _varint(value: int) -> bytes:
    """Base-128 little-endian, as protobuf writes lengths."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
