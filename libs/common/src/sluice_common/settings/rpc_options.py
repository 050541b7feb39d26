"""The tuning of a gRPC server, known to settings without importing grpc."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from sluice_core.uploads.model import MAX_UNARY_MESSAGE_BYTES, MIB

_ENVELOPE_BYTES: Final = 64 * 1024

MAX_STREAM_WINDOW_BYTES: Final = 1024 * MIB
"""HTTP/2 allows one byte less than 2 GiB; gRPC adds up to one message while it is read."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The tuning of a server.

    `keepalive_seconds` plus `keepalive_timeout_seconds` bounds how long a vanished client keeps
    its slot. `max_connection_age_seconds` (0: never) makes clients reconnect, so that load spreads
    to new replicas; calls in flight then have `connection_grace_seconds` to end.
    """

    envelope_bytes: ClassVar[int] = _ENVELOPE_BYTES
    """What may surround the data of a largest message: its own fields and their tags."""

    max_message_bytes: int = MAX_UNARY_MESSAGE_BYTES + _ENVELOPE_BYTES
    max_metadata_bytes: int = 16 * 1024
    max_concurrent_streams: int = 1000
    max_concurrent_rpcs: int | None = None
    keepalive_seconds: float = 30.0
    keepalive_timeout_seconds: float = 20.0
    max_connection_age_seconds: float = 0.0
    connection_grace_seconds: float = 60.0
    stream_window_bytes: int = 2 * MIB
    """What a client may send on one stream ahead of its reader; 0: gRPC measures the connection and
    gives each stream as much as that seems to carry, which has no bound that holds for all of
    them. Times the streams that send, it is most of what a server needs in memory; divided by the
    round-trip time it is the most that one stream can carry. ADR 0016 has the figures."""
    max_frame_bytes: int = 1 * MIB
    """The largest HTTP/2 frame that a client may send: a block comes in one or two. With a window
    of 0, gRPC chooses this too."""
    message_seconds: float = 60.0
    """The first message of a call has to arrive within this."""
    unfinished_connection_bytes: int = 32 * MIB
    """Of messages above the limits of their methods, per connection, before its reads are ended."""
    unfinished_bytes: int = 256 * MIB
    """Of messages that have begun and not ended, all connections together; unary chunks, which
    have permits of their own, not included."""
    reuse_port: bool = False
    """Several processes on one host share the port; off, a second server on it is refused."""
