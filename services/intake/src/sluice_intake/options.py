"""How an intake behaves: limits, waits and bounds, all in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice_core.combinations import Durability
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import (
    DEFAULT_PART_BYTES,
    MAX_BLOCK_BYTES,
    MAX_INLINE_BYTES,
    MAX_OBJECT_BYTES,
    MAX_UNARY_MESSAGE_BYTES,
    MIB,
)


@dataclass(frozen=True, slots=True)
class IntakeOptions:
    """Everything about an intake that is not a dependency.

    Memory of one process, at most: `unary_budget_bytes`, plus per stream one block and what the
    window of the stream lets its client send ahead (`ServerOptions`).
    """

    ledger: LedgerOptions = field(default_factory=LedgerOptions)
    """The same bounds that the ledger works with: reported by GetLimits."""
    durability: Durability = Durability.MEMORY
    default_bucket: str = "sluice"
    """Bucket of drives that name none."""
    default_part_bytes: int = DEFAULT_PART_BYTES
    """Part size of drives that name none."""
    preferred_chunk_bytes: int = 8 * MIB
    max_block_bytes: int = MAX_BLOCK_BYTES
    max_unary_message_bytes: int = MAX_UNARY_MESSAGE_BYTES
    max_inline_bytes: int = MAX_INLINE_BYTES
    max_object_bytes: int = MAX_OBJECT_BYTES

    max_accepts_in_flight: int = 4
    """Chunks of one stream that are read to their end and not yet acknowledged."""
    budget_stall_seconds: float = 20.0
    """A delayed chunk is refused when the full budget does not move for this long."""
    look_ahead_stall_seconds: float = 5.0
    """The same for a chunk beyond the look-ahead, while the needed chunk does not arrive."""
    max_delay_seconds: float = 120.0
    """A delayed chunk is refused after this long, whatever moves."""
    unary_budget_wait_seconds: float = 2.0
    """A unary chunk waits this long for room in the budget."""
    retry_after_seconds: float = 1.0
    """What RetryInfo of a refusal says."""

    chunk_stall_seconds: float = 30.0
    """A chunk that gets fewer than `chunk_stall_bytes` while its client is waited for this long
    is given up (fault: a client that vanished or trickles)."""
    chunk_stall_bytes: int = 16 * 1024
    chunk_fair_bytes: int = 256 * 1024
    """While the budget is full, a chunk that gets fewer than this in the same time is given up:
    others are waiting for the room that it holds."""
    room_seconds: float = 5.0
    """A chunk that takes longer than this keeps its room by asking again so often, and gives back
    what it does not use."""
    unary_budget_bytes: int = 128 * MIB
    """Bytes of unary chunks in memory at once (rule 11)."""
    unary_permit_wait_seconds: float = 10.0
    unary_read_seconds: float = 60.0
    """A unary chunk has to arrive within this; how much of it has arrived cannot be seen."""
    unary_yield_seconds: float = 1.0
    """While others wait for a permit, a unary chunk has to arrive within this."""

    max_missing_ranges: int = 1000
    watch_interval_seconds: float = 0.1
    """At most one snapshot of a watched upload in this time, except the first and the last."""
    max_complete_wait_seconds: float = 300.0
    hint_seconds: float = 1.0
    """How long a full work queue may hold up a caller; the sweeper re-issues what was not put."""
