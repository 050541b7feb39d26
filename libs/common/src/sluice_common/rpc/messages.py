"""Size limit, decompression and parsing of one request message (ADR 0018)."""

# gRPC has one message limit for all methods of a server, 32 MiB because of UploadChunk. Most
# methods carry a few names, so each has its own limit here. gRPC's decompression is off, because it
# would inflate every message up to the server's limit.

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from sluice_core.errors import InvalidArgument, ResourceExhausted

ENVELOPE_BYTES: Final = 64 * 1024
"""Limit of a message without payload, and of the other fields around a payload."""

_INFLATED_IN_PLACE_BYTES: Final = 128 * 1024
"""Size up to which messages are inflated on the event loop, in well below a millisecond."""

_GZIP_START: Final = b"\x1f\x8b"
_ZLIB_START: Final = 0x78
COMPRESSED_STARTS: Final = frozenset({_GZIP_START[0], _ZLIB_START})
"""First bytes of compressed messages; gRPC does not expose which messages were compressed.

No protobuf message begins like gzip, because there is no wire type 7. One that begins like zlib
starts with field 15, so a message that is no complete zlib stream is used unchanged.
"""
_GZIP_WINDOW_BITS: Final = 16 + zlib.MAX_WBITS


class RequestFormat:
    """A deserializer with the message limit of its method.

    Args:
        parse: converts the inflated wire bytes of a message to the handler's argument; raises
            `SluiceError` for invalid bytes.
        max_bytes: limit of a message, both compressed and inflated.
        is_timed: whether the first message of a call must arrive within
            `ServerOptions.message_seconds`; false for a handler with its own time limit.
    """

    __slots__ = ("is_timed", "max_bytes", "parse")

    def __init__(
        self, parse: Callable[[bytes], Any], max_bytes: int, *, is_timed: bool = True
    ) -> None:
        self.parse = parse
        self.max_bytes = max_bytes
        self.is_timed = is_timed

    def __call__(self, wire: bytes) -> Any:
        """Parse a message; gRPC calls this on a server without our interceptor."""
        return self.parse(wire)


def request_format(deserializer: Callable[[bytes], Any] | None) -> RequestFormat:
    """Return the format of a handler's deserializer; by default with the ordinary limit."""
    if isinstance(deserializer, RequestFormat):
        return deserializer
    if deserializer is None:
        return RequestFormat(bytes, ENVELOPE_BYTES)
    return RequestFormat(partial(parse_message, deserializer), ENVELOPE_BYTES)


def parse_message(deserializer: Callable[[bytes], Any], wire: bytes) -> Any:
    """Parse a message and discard its unknown fields.

    Raise `InvalidArgument` MALFORMED_MESSAGE.
    """
    try:
        message = deserializer(wire)
    except DecodeError:
        raise malformed_message() from None
    if isinstance(message, Message):
        # They are unused, and some handlers keep their request for hours.
        message.DiscardUnknownFields()
    return message


async def inflate(wire: bytes, max_bytes: int) -> bytes:
    """Return a message inflated, or unchanged if it is not compressed.

    Raise `ResourceExhausted` MESSAGE_TOO_LARGE above `max_bytes`, and `InvalidArgument`
    MALFORMED_MESSAGE for damaged gzip.
    """
    if wire[:1] != b"\x78" and wire[:2] != _GZIP_START:
        return wire
    if max_bytes <= _INFLATED_IN_PLACE_BYTES:
        return _inflate(wire, max_bytes)
    return await asyncio.to_thread(_inflate, wire, max_bytes)


def _inflate(wire: bytes, max_bytes: int) -> bytes:
    is_gzip = wire[0] != _ZLIB_START
    inflating = zlib.decompressobj(_GZIP_WINDOW_BITS if is_gzip else zlib.MAX_WBITS)
    try:
        inflated = inflating.decompress(wire, max_bytes + 1)
        if len(inflated) > max_bytes:
            raise message_too_large(max_bytes)
    except zlib.error:
        is_whole = False
    else:
        is_whole = inflating.eof and not inflating.unused_data
    if is_whole:
        return inflated
    if is_gzip:
        raise malformed_message()
    return wire


def malformed_message() -> InvalidArgument:
    """Return the error for bytes that are no valid message."""
    return InvalidArgument(
        "MALFORMED_MESSAGE",
        "The message does not match the .proto; regenerate the client from it.",
    )


def message_too_large(max_bytes: int) -> ResourceExhausted:
    """Return the error for a message above the limit of its method."""
    return ResourceExhausted(
        "MESSAGE_TOO_LARGE",
        f"A message of this method has at most {max_bytes} bytes; send less in one message.",
        metadata={"max_bytes": str(max_bytes)},
    )


def too_many_fields(max_fields: int) -> InvalidArgument:
    """Return the error for a message with too many fields."""
    return InvalidArgument(
        "TOO_MANY_FIELDS",
        f"A message has at most {max_fields} fields outside of its submessages; send each once.",
        metadata={"max_fields": str(max_fields)},
    )
