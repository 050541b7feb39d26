"""Options of a client: frozen, validated once, units in the names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sluice_client.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Options of a `Client`.

    Memory: an upload holds at most two chunks per stream (two chunks × window for sources that
    cannot be read again). Each upload has one stream; further ones come from `extra_streams`, which
    all uploads of the client share. With n concurrent uploads: (n + extra_streams) × 2 × chunk
    size.
    """

    repository_target: str | None = None
    """Address of the RepositoryService; None means the same as the intake's."""
    root_certificates: bytes | None = None
    """PEM for TLS targets (`https://…`); None means the system's."""
    connections: int = 1
    """TCP connections to the intake; streams are assigned round-robin."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    call_timeout_seconds: float = 30.0
    """Deadline of one attempt of a unary call."""
    stall_seconds: float = 60.0
    """A stream without any activity for this long is reopened."""
    max_streams: int = 4
    """Parallel streams of one upload."""
    extra_streams: int = 8
    """Streams beyond the first of each upload, over all uploads of the client."""
    window_chunks: int = 4
    """Chunks of one stream that may await their acknowledgement."""
    completion_wait_seconds: float = 5.0
    """How long CompleteUpload waits for the end before WatchUpload takes over."""
    max_restarts: int = 3
    """How often one upload restarts automatically (rule 28)."""
    state_dir: Path | None = None
    """Directory of the resume journals; None means SLUICE_STATE_DIR, else the user's state
    directory.
    """

    def __post_init__(self) -> None:
        if min(self.connections, self.max_streams, self.window_chunks) < 1:
            raise ValueError("connections, max_streams and window_chunks start at 1")
        if min(self.extra_streams, self.max_restarts) < 0:
            raise ValueError("extra_streams and max_restarts start at 0")
        if min(self.call_timeout_seconds, self.stall_seconds) <= 0:
            raise ValueError("call_timeout_seconds and stall_seconds are above 0")
