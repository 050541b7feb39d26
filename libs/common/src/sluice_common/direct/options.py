"""Options of the direct transport from an intake to the repository."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DirectOptions:
    """Limits of the direct transport.

    Maximum memory of one process: `max_streams` blocks inside gRPC.
    """

    max_streams: int = 256
    """Chunks in transit at once; each occupies a stream from its first block until it is
    accepted."""
    wait_seconds: float = 10.0
    """How long a chunk waits for a free stream."""
    stall_seconds: float = 20.0
    """A repository that accepts no block or answers no chunk for this long counts as lost."""
    idle_seconds: float = 1.0
    """Idle streams are closed after this, so that a repository that stops need not wait."""
    max_stream_seconds: float = 30.0
    """A stream starts no chunk after this age, so that chunks spread to new repositories and no
    stream outlives the grace of an aged connection."""
    retry_after_seconds: float = 1.0
    """Retry delay in refusals."""
