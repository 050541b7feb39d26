"""Limits and lifetimes of a ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sluice_core.uploads.model import MAX_CHUNK_BYTES, MIB

Clock = Callable[[], float]
"""Seconds since the epoch; one clock per deployment."""


@dataclass(frozen=True, slots=True)
class LedgerOptions:
    """Bounds and lifetimes of every ledger (protocol.md, rules 9, 10, 24, 25).

    The reserve of rule 9 (one part plus one largest chunk) comes on top of `budget_bytes`.
    """

    budget_bytes: int = 512 * MIB
    tenant_budget_bytes: int = 512 * MIB
    upload_budget_bytes: int = 256 * MIB
    look_ahead_parts: int = 4
    max_chunk_bytes: int = MAX_CHUNK_BYTES
    idle_lifetime_seconds: float = 24 * 3600
    total_lifetime_seconds: float = 7 * 24 * 3600
    expiry_grace_seconds: float = 60
    pressure_idle_seconds: float = 3600
    cleanup_again_seconds: float = 3600
    forget_after_seconds: float = 24 * 3600
    reservation_seconds: float = 600
    discard_on_accept: bool = False
    """Phase 1: discard bytes, count a ready part as stored, and complete at once."""
    emit_completed: bool = False
    """Emit UploadCompleted from the ledger, for deployments without a catalogue (rule 22)."""
