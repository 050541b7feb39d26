"""GetLimits: the sizes and lifetimes of this deployment."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_core.combinations import Durability
from sluice_core.uploads.model import MAX_CHUNKS
from sluice_core.uploads.planner import choose_part_bytes
from sluice_intake.options import IntakeOptions


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a deployment: sizes in bytes, times in seconds."""

    max_block_bytes: int
    max_chunk_bytes: int
    max_unary_message_bytes: int
    preferred_chunk_bytes: int
    part_bytes: int
    max_object_bytes: int
    max_chunks: int
    max_inline_bytes: int
    idle_lifetime_seconds: float
    total_lifetime_seconds: float
    durability: Durability
    look_ahead_bytes: int


def limits_of(options: IntakeOptions) -> Limits:
    """Return the limits that a client needs to cut an object into chunks."""
    ledger = options.ledger
    part_bytes = choose_part_bytes(options.default_part_bytes, None)
    return Limits(
        max_block_bytes=options.max_block_bytes,
        max_chunk_bytes=ledger.max_chunk_bytes,
        max_unary_message_bytes=options.max_unary_message_bytes,
        preferred_chunk_bytes=options.preferred_chunk_bytes,
        part_bytes=part_bytes,
        max_object_bytes=options.max_object_bytes,
        max_chunks=MAX_CHUNKS,
        max_inline_bytes=options.max_inline_bytes,
        idle_lifetime_seconds=ledger.idle_lifetime_seconds,
        total_lifetime_seconds=ledger.total_lifetime_seconds,
        durability=options.durability,
        look_ahead_bytes=ledger.look_ahead_parts * part_bytes,
    )
