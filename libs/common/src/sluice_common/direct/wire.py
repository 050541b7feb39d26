"""Encoder of PutChunksRequest that does not copy the payload into a protobuf object.

A property test compares its bytes with the generated parser."""

from __future__ import annotations

from typing import Final

from sluice.repository.v1 import chunk_sink_pb2
from sluice.upload.v1 import upload_pb2
from sluice_core.ports import Block, ChunkOffer

_DELIMITED: Final = 2
_HEADER_TAG: Final = bytes([chunk_sink_pb2.PutChunksRequest.HEADER_FIELD_NUMBER << 3 | _DELIMITED])
_DATA_TAG: Final = bytes([chunk_sink_pb2.PutChunksRequest.DATA_FIELD_NUMBER << 3 | _DELIMITED])


def encode_first_block(offer: ChunkOffer, first: Block) -> bytes:
    """Return the message that opens a chunk, with its first block unless the chunk is empty."""
    header = upload_pb2.ChunkHeader(
        upload_id=offer.upload_id, number=offer.number, size=offer.size, is_last=offer.is_last
    ).SerializeToString()
    pieces: list[Block] = [_HEADER_TAG, _varint(len(header)), header]
    if len(first):
        pieces += (_DATA_TAG, _varint(len(first)), first)
    return b"".join(pieces)


def encode_block(block: Block) -> bytes:
    """Return the message of a further block.

    The message has the layout of UploadStreamRequest. A block that a client sent in a separate
    message is therefore forwarded without a copy; any other block is copied once.
    """
    prefix = _DATA_TAG + _varint(len(block))
    if isinstance(block, memoryview):
        message = block.obj
        # rpc/frames.py returns a view of the received message. If the message held nothing but
        # the block, it consists of this prefix and the view.
        if (
            isinstance(message, bytes)
            and len(message) == len(prefix) + len(block)
            and message.startswith(prefix)
        ):
            return message
    return b"".join((prefix, block))


def _varint(value: int) -> bytes:
    """Encode a protobuf varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
