"""Options of a gRPC server; importable without grpc."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from sluice_core.uploads.model import MAX_UNARY_MESSAGE_BYTES, MIB

_ENVELOPE_BYTES: Final = 64 * 1024

MAX_STREAM_WINDOW_BYTES: Final = 1024 * MIB
"""HTTP/2 allows one byte less than 2 GiB; gRPC adds up to one message while it is read."""

MTLS_CONNECTION_AGE_SECONDS: Final = 3600.0
"""Age at which connections with client certificates end by default: about the lifetime of a
workload's certificate."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options of a gRPC server.

    `keepalive_seconds` plus `keepalive_timeout_seconds` bounds how long a vanished client keeps
    its slot. `max_connection_age_seconds` (0: never) makes clients reconnect, so that load spreads
    to new replicas; calls in flight then have `connection_grace_seconds` to end.
    """

    envelope_bytes: ClassVar[int] = _ENVELOPE_BYTES
    """Allowance for the other fields of a message with maximum payload."""

    max_message_bytes: int = MAX_UNARY_MESSAGE_BYTES + _ENVELOPE_BYTES
    max_metadata_bytes: int = 16 * 1024
    max_concurrent_streams: int = 1000
    max_concurrent_rpcs: int | None = None
    keepalive_seconds: float = 30.0
    keepalive_timeout_seconds: float = 20.0
    max_connection_age_seconds: float = 0.0
    connection_grace_seconds: float = 60.0
    stream_window_bytes: int = 2 * MIB
    """Flow-control window of a stream: bytes that a client may send ahead of the reader. With 0,
    gRPC probes the bandwidth and sets it per stream, without a bound over all streams. Window
    times sending streams is most of a server's memory; window divided by round-trip time is the
    maximum throughput of a stream. For figures see ADR 0016."""
    max_frame_bytes: int = 1 * MIB
    """Maximum size of an HTTP/2 frame from a client: a block takes one or two. With a window of 0,
    gRPC chooses this too."""
    stream_grace_seconds: float = 300.0
    """How long a stream may outlive the token of its caller."""
    handshake_seconds: float = 20.0
    """Time limit for the handshakes of TLS and HTTP/2 on a new connection."""
    message_seconds: float = 60.0
    """Time limit for the first message of a call."""
    unfinished_connection_bytes: int = 32 * MIB
    """Unfinished bytes per connection above the message limits, before its reads are ended."""
    unfinished_bytes: int = 256 * MIB
    """Bytes of unfinished messages of all connections, without unary chunks, which have separate
    permits."""
    reuse_port: bool = False
    """Whether several processes on one host share the port; if off, a second one fails."""
