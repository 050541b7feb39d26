"""How an intake hands chunks to the repository."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DirectOptions:
    """The bounds of the direct transport.

    Memory of one process, at most: `max_streams` blocks in gRPC's hands.
    """

    max_streams: int = 256
    """Chunks on their way at once: each has a stream of its own from its first block until it is
    accepted."""
    wait_seconds: float = 10.0
    """How long a chunk waits for a stream while all of them are taken."""
    stall_seconds: float = 20.0
    """A repository that takes no block, or does not answer a whole chunk, for this long is gone."""
    idle_seconds: float = 1.0
    """A stream without a chunk ends after this, so that a repository that stops need not wait."""
    max_stream_seconds: float = 30.0
    """A stream begins no chunk after this: chunks then spread to repositories that were added,
    and no stream outlives the grace of an aged connection."""
    retry_after_seconds: float = 1.0
    """What a refusal tells the client to wait."""
