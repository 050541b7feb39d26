"""Wire encoding of UploadStreamRequest without a protobuf object around the payload."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.upload.v1 import upload_pb2
from sluice_client.checksums import Block

_HEADER_TAG = b"\x0a"
"""Field 1, length-delimited."""
_DATA_TAG = b"\x12"
"""Field 2, length-delimited."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the stream: a chunk's header (wire bytes of ChunkHeader), a block, or both."""

    header: bytes = b""
    data: Block = b""


def chunk_header(upload_id: str, number: int, size: int, crc32c: int, *, is_last: bool) -> bytes:
    """Return the wire bytes of a ChunkHeader; an empty `upload_id` refers to the first header's."""
    return upload_pb2.ChunkHeader(
        upload_id=upload_id, number=number, size=size, crc32c=crc32c, is_last=is_last
    ).SerializeToString()


def encode(frame: Frame) -> bytes:
    """Return the wire bytes of a frame: the request serializer of UploadStream.

    A generated message would copy every block into itself and again out of itself. Here a block is
    copied once, into the bytes that gRPC sends. The .proto is authoritative: a property test
    compares these bytes with the generated parser.
    """
    pieces: list[Block] = []
    if frame.header:
        pieces += (_HEADER_TAG, _varint(len(frame.header)), frame.header)
    if len(frame.data):
        pieces += (_DATA_TAG, _varint(len(frame.data)), frame.data)
    return b"".join(pieces)


def _varint(value: int) -> bytes:
    """Return a base-128 little-endian varint, as protobuf writes lengths."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
