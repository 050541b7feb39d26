"""Options of resumable uploads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sluice_core.uploads.model import MAX_CHUNK_BYTES, MAX_CHUNKS, MIB
from sluice_gateway.http.paced_bodies import Pace

PIECE_BYTES: Final = MIB
"""A chunk of the ledger ends at every multiple of this in the upload, and where a body ends. It is
the largest block, so that a chunk is one message."""

MAX_SIZE: Final = MAX_CHUNKS // 2 * PIECE_BYTES
"""Half of the chunks that an upload may have are left for bodies that end between multiples."""


@dataclass(frozen=True, slots=True)
class TusOptions:
    """Options of the tus server.

    max_size: of one upload, in bytes; `Tus-Max-Size`.
    max_checked_bytes: of a body with `Upload-Checksum`. It becomes one chunk, so that nothing of
        it counts before its checksum is known.
    max_bodies: received at a time by this process, each with two pieces in memory. A
        tenant has at most as many as stay free.
    local_only: whether to serve callers without a token only, because the services behind would
        take the uploads of any other for theirs.
    complete_seconds: how long the last request of an upload waits for its node.
    concatenate_seconds: how long a final upload waits for the nodes of its partial uploads.
    """

    max_size: int = MAX_SIZE
    max_checked_bytes: int = MAX_CHUNK_BYTES
    pace: Pace = field(default_factory=Pace)
    max_bodies: int = 128
    complete_seconds: float = 5.0
    concatenate_seconds: float = 60.0
    local_only: bool = False
    default_drive: str = "photos"
    """The drive that a gateway gives its users."""
