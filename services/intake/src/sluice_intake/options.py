"""The options of an intake: limits, waits and bounds."""

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
    """The configuration of an intake, besides its dependencies.

    One process uses at most `unary_budget_bytes` of memory for chunks, plus one block and the
    HTTP/2 window (`ServerOptions`) per stream.
    """

    ledger: LedgerOptions = field(default_factory=LedgerOptions)
    """The bounds of the ledger, which GetLimits reports."""
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
    """Most fully read chunks of one stream that are not yet acknowledged."""
    budget_stall_seconds: float = 20.0
    """A delayed chunk is refused when the full budget makes no progress for this long."""
    look_ahead_stall_seconds: float = 5.0
    """The same for a chunk beyond the look-ahead, while the needed chunk does not arrive."""
    max_delay_seconds: float = 120.0
    """A delayed chunk is refused after this long, regardless of progress."""
    unary_budget_wait_seconds: float = 2.0
    """A unary chunk waits this long for room in the budget."""
    retry_after_seconds: float = 1.0
    """The RetryInfo delay of a refusal."""

    chunk_stall_seconds: float = 30.0
    """The stream of a chunk fails when this much waiting for the client brings fewer than
    `chunk_stall_bytes`: the client vanished or trickles."""
    chunk_stall_bytes: int = 16 * 1024
    chunk_fair_bytes: int = 256 * 1024
    """While the budget is full, the stream of a chunk fails when the same time brings fewer
    bytes than this: others wait for the room that it holds."""
    room_seconds: float = 5.0
    """Interval in which an open chunk renews its room and releases what it does not use."""
    unary_budget_bytes: int = 128 * MIB
    """Most bytes of unary chunks in memory (rule 11)."""
    unary_permit_wait_seconds: float = 10.0
    unary_read_seconds: float = 60.0
    """Deadline for the arrival of a unary chunk; gRPC does not report partial arrival."""
    unary_yield_seconds: float = 1.0
    """The same deadline while other calls wait for a permit."""

    quota_step_bytes: int = 64 * MIB
    """Most bytes that an upload of unknown size reserves ahead under a quota."""
    max_missing_ranges: int = 1000
    watch_interval_seconds: float = 0.1
    """Least time between two snapshots of a watched upload, except the first and the last."""
    max_complete_wait_seconds: float = 300.0
    hint_seconds: float = 1.0
    """Longest wait of a caller for a full work queue; the sweeper re-issues lost work items."""
