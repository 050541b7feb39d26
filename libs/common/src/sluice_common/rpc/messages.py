"""One message of a request: how large it may be, and how it is inflated and parsed within that.

gRPC has one limit of received messages for all methods of a server, and UploadChunk sets it at
32 MiB. Most methods carry a few names, so each has a limit of its own here (ADR 0018). gRPC does
not decompress on our servers either: it would inflate every message up to its own limit.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from sluice_core.errors import InvalidArgument, ResourceExhausted

ENVELOPE_BYTES: Final = 64 * 1024
"""The largest message of an ordinary method, and what may surround the payload of the others."""

_INFLATED_IN_PLACE_BYTES: Final = 128 * 1024
"""What is inflated on the event loop, in well below a millisecond."""

_GZIP_START: Final = b"\x1f\x8b"
_ZLIB_START: Final = 0x78
COMPRESSED_STARTS: Final = frozenset({_GZIP_START[0], _ZLIB_START})
"""First bytes of compressed messages. gRPC keeps to itself which messages came compressed. No
Protobuf message begins as gzip does: there is no wire type 7. One that begins as zlib does has a
field 15 in front, so that a message which is no whole zlib stream is taken as it came."""
_GZIP_WINDOW_BITS: Final = 16 + zlib.MAX_WBITS


class RequestFormat:
    """A deserializer that states the largest message of its method.

    Args:
        parse: from the wire bytes of one message, inflated, to what the handler gets. Raises
            `SluiceError` for bytes that are no such message.
        max_bytes: of one message, compressed and inflated.
        is_timed: the first message of a call has to arrive within
            `ServerOptions.message_seconds`. Off for a handler with a clock of its own.
    """

    __slots__ = ("is_timed", "max_bytes", "parse")

    def __init__(
        self, parse: Callable[[bytes], Any], max_bytes: int, *, is_timed: bool = True
    ) -> None:
        self.parse = parse
        self.max_bytes = max_bytes
        self.is_timed = is_timed

    def __call__(self, wire: bytes) -> Any:
        """What gRPC calls on a server without our interceptor."""
        return self.parse(wire)


def request_format(deserializer: Callable[[bytes], Any] | None) -> RequestFormat:
    """The format that a handler was registered with; that of an ordinary method by default."""
    if isinstance(deserializer, RequestFormat):
        return deserializer
    if deserializer is None:
        return RequestFormat(bytes, ENVELOPE_BYTES)
    return RequestFormat(partial(parse_message, deserializer), ENVELOPE_BYTES)


def parse_message(deserializer: Callable[[bytes], Any], wire: bytes) -> Any:
    """The message without the fields that this release does not know.

    Raises `InvalidArgument` MALFORMED_MESSAGE.
    """
    try:
        message = deserializer(wire)
    except DecodeError:
        raise malformed_message() from None
    if isinstance(message, Message):
        # They count for nothing, and some handlers keep their request for hours.
        message.DiscardUnknownFields()
    return message


async def inflate(wire: bytes, max_bytes: int) -> bytes:
    """A message as its client serialized it, of at most `max_bytes`; compressed or not.

    Raises `ResourceExhausted` MESSAGE_TOO_LARGE once it would be larger, and `InvalidArgument`
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
    """For bytes that are no message of their method."""
    return InvalidArgument(
        "MALFORMED_MESSAGE",
        "The message is not what the .proto says; regenerate the client from it.",
    )


def message_too_large(max_bytes: int) -> ResourceExhausted:
    """For a message above the limit of its method."""
    return ResourceExhausted(
        "MESSAGE_TOO_LARGE",
        f"A message of this method has at most {max_bytes} bytes; send less in one message.",
        metadata={"max_bytes": str(max_bytes)},
    )


def too_many_fields(max_fields: int) -> InvalidArgument:
    """For a message that is mostly tags."""
    return InvalidArgument(
        "TOO_MANY_FIELDS",
        f"A message has at most {max_fields} fields outside of its submessages; send each once.",
        metadata={"max_fields": str(max_fields)},
    )
