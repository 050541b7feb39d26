"""Zero-copy deserializers of the messages that carry payload.

A property test compares them with the generated parsers."""

# A generated parser copies `data` twice, which costs more than all else that the intake does to a
# block. Here the top level of the message is walked: `data` becomes a memoryview of the wire bytes,
# and all other fields go to the generated parser unchanged, which merges, defaults and validates.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from sluice.upload.v1 import upload_pb2
from sluice_common.rpc.messages import (
    ENVELOPE_BYTES,
    malformed_message,
    message_too_large,
    parse_message,
    too_many_fields,
)
from sluice_core.errors import SluiceError

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_MAX_VARINT_BYTES: Final = 10
_MAX_TAG_BYTES: Final = 5
_MAX_TAG: Final = 2**32 - 1
_MAX_LENGTH: Final = 2**31 - 1
_MAX_GROUP_DEPTH: Final = 100
"""Limits of the generated parser, above which a message is malformed."""

MAX_FIELDS: Final = 256
"""Limit of fields in one message, including those in groups, without those of submessages.

The walk costs a microsecond per field. Real messages need a tenth of this.
"""

_NO_DATA: Final = memoryview(b"")

_STREAM_DATA_FIELD: Final = upload_pb2.UploadStreamRequest.DATA_FIELD_NUMBER
_STREAM_DATA_TAG: Final = _STREAM_DATA_FIELD << 3 | _BYTES
_CHUNK_DATA_FIELD: Final = upload_pb2.UploadChunkRequest.DATA_FIELD_NUMBER
_INLINE_DATA_FIELD: Final = upload_pb2.InitiateUploadRequest.INLINE_DATA_FIELD_NUMBER


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a chunk. `upload_id` may be empty after the first header of a stream."""

    upload_id: str
    number: int
    size: int
    crc32c: int | None
    is_last: bool
    force: bool


class Frame(NamedTuple):
    """One message; missing and empty data are equivalent.

    An unreadable message has an `error`, which the handler raises.
    """

    header: Header | None
    data: memoryview
    error: SluiceError | None = None


class _Malformed(Exception):
    """The wire bytes are no valid message."""


def read_stream_frame(wire: bytes) -> Frame:
    """Deserialize an UploadStreamRequest."""
    # Fast path: most messages consist of one block.
    if wire[:1] == _FAST_PATH_START:
        try:
            length, start = _read_varint(wire, 1, _MAX_TAG_BYTES)
        except _Malformed:
            return _unreadable(malformed_message())
        if start + length == len(wire):
            return Frame(None, memoryview(wire)[start:])
    try:
        data, rest = _split_payload(wire, _STREAM_DATA_FIELD)
        message = upload_pb2.UploadStreamRequest.FromString(rest)
    except (_Malformed, DecodeError):
        return _unreadable(malformed_message())
    except SluiceError as error:
        return _unreadable(error)
    data = _NO_DATA if data is None else data
    if not message.HasField("header"):
        return Frame(None, data)
    header = message.header
    return Frame(
        Header(
            upload_id=header.upload_id,
            number=header.number,
            size=header.size,
            crc32c=header.crc32c if header.HasField("crc32c") else None,
            is_last=header.is_last,
            force=header.force,
        ),
        data,
    )


def read_chunk_frame(wire: bytes) -> Frame:
    """Deserialize an UploadChunkRequest; the size in its header is that of the data."""
    try:
        data, rest = _split_payload(wire, _CHUNK_DATA_FIELD)
        message = upload_pb2.UploadChunkRequest.FromString(rest)
    except (_Malformed, DecodeError):
        return _unreadable(malformed_message())
    except SluiceError as error:
        return _unreadable(error)
    data = _NO_DATA if data is None else data
    return Frame(
        Header(
            upload_id=message.upload_id,
            number=message.number,
            size=len(data),
            crc32c=message.crc32c if message.HasField("crc32c") else None,
            is_last=message.is_last,
            force=message.force,
        ),
        data,
    )


_FAST_PATH_START: Final = bytes([_STREAM_DATA_TAG])


def read_initiate_request(wire: bytes) -> upload_pb2.InitiateUploadRequest:
    """Deserialize an InitiateUploadRequest, whose inline data may be large.

    Raise `InvalidArgument` MALFORMED_MESSAGE, TOO_MANY_FIELDS, `ResourceExhausted`
    MESSAGE_TOO_LARGE for more than 64 KiB beside the inline data.
    """
    try:
        data, rest = _split_payload(wire, _INLINE_DATA_FIELD)
    except _Malformed:
        raise malformed_message() from None
    message: upload_pb2.InitiateUploadRequest = parse_message(
        upload_pb2.InitiateUploadRequest.FromString, rest
    )
    if data is not None:  # present but empty creates an empty node
        message.inline_data = bytes(data)
    return message


def _unreadable(error: SluiceError) -> Frame:
    return Frame(None, _NO_DATA, error)


def _split_payload(wire: bytes, data_field: int) -> tuple[memoryview | None, bytes]:
    """Return the last occurrence of `data_field`, if any, and the other fields in order.

    Raise `_Malformed`, `InvalidArgument` TOO_MANY_FIELDS, `ResourceExhausted` MESSAGE_TOO_LARGE.
    """
    data: memoryview | None = None
    rest: list[bytes] = []
    position, end, fields, rest_bytes = 0, len(wire), 0, 0
    while position < end:
        field_start = position
        number, wire_type, position = _read_tag(wire, position)
        if number == 0:  # the generated parser accepts it only inside a skipped group
            raise _Malformed
        if number == data_field and wire_type == _BYTES:
            length, position = _read_length(wire, position)
            data = memoryview(wire)[position : position + length]
            position += length
            fields += 1
        else:
            position, skipped = _skip_value(wire, position, number, wire_type, MAX_FIELDS - fields)
            fields += skipped
            rest_bytes += position - field_start
            if rest_bytes > ENVELOPE_BYTES:
                raise message_too_large(ENVELOPE_BYTES)
            rest.append(wire[field_start:position])
        if fields > MAX_FIELDS:
            raise too_many_fields(MAX_FIELDS)
    return data, b"".join(rest)


def _read_varint(wire: bytes, position: int, max_bytes: int) -> tuple[int, int]:
    value = shift = 0
    for byte in wire[position : position + max_bytes]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _Malformed


def _read_tag(wire: bytes, position: int) -> tuple[int, int, int]:
    tag, position = _read_varint(wire, position, _MAX_TAG_BYTES)
    if tag > _MAX_TAG:
        raise _Malformed
    return tag >> 3, tag & 7, position


def _read_length(wire: bytes, position: int) -> tuple[int, int]:
    """Read a length; raise `_Malformed` if it exceeds the rest."""
    length, position = _read_varint(wire, position, _MAX_TAG_BYTES)
    if length > _MAX_LENGTH or length > len(wire) - position:
        raise _Malformed
    return length, position


def _skip_value(
    wire: bytes, position: int, number: int, wire_type: int, max_fields: int
) -> tuple[int, int]:
    """Skip a value of any wire type, including groups; return the new position and its fields.

    Raise TOO_MANY_FIELDS above `max_fields`.
    """
    open_groups: list[int] = []
    fields = 1
    while True:
        if wire_type == _VARINT:
            _, position = _read_varint(wire, position, _MAX_VARINT_BYTES)
        elif wire_type == _FIXED64:
            position += 8
        elif wire_type == _FIXED32:
            position += 4
        elif wire_type == _BYTES:
            length, position = _read_length(wire, position)
            position += length
        elif wire_type == _GROUP:
            open_groups.append(number)
            if len(open_groups) > _MAX_GROUP_DEPTH:
                raise _Malformed
        elif wire_type != _END_GROUP or not open_groups or open_groups.pop() != number:
            raise _Malformed
        if position > len(wire):
            raise _Malformed
        if not open_groups:
            return position, fields
        if fields > max_fields:
            raise too_many_fields(MAX_FIELDS)
        number, wire_type, position = _read_tag(wire, position)
        if wire_type != _END_GROUP:
            fields += 1
