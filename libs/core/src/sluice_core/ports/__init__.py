"""Coordination ports: ledger, chunk store and work queue. Rule numbers are of docs/protocol.md."""

# Every adapter passes tests/contract/. All methods are safe for concurrent coroutines. Any method
# may raise `Unavailable` when its backend does not answer. Every method is idempotent: nothing
# changed, or a retry returns the result of the first call.

from __future__ import annotations

from sluice_core.ports.answers import (
    Acceptance,
    Admission,
    Backlog,
    ChunkOffer,
    Completion,
    CompletionClaim,
    Fence,
    LedgerEvent,
    PartClaim,
    StoredPartRecord,
    UploadPage,
    Verdict,
)
from sluice_core.ports.chunk_store import (
    Block,
    ChunkStore,
    StagedChunk,
)
from sluice_core.ports.ledger import (
    ChunkLedger,
    EventLedger,
    LifecycleLedger,
    SweepLedger,
    UploadLedger,
    WorkLedger,
)
from sluice_core.ports.work_queue import (
    Delivery,
    QueueDepth,
    WorkItem,
    WorkKind,
    WorkQueue,
)

__all__ = [
    "Acceptance",
    "Admission",
    "Backlog",
    "Block",
    "ChunkLedger",
    "ChunkOffer",
    "ChunkStore",
    "Completion",
    "CompletionClaim",
    "Delivery",
    "EventLedger",
    "Fence",
    "LedgerEvent",
    "LifecycleLedger",
    "PartClaim",
    "QueueDepth",
    "StagedChunk",
    "StoredPartRecord",
    "SweepLedger",
    "UploadLedger",
    "UploadPage",
    "Verdict",
    "WorkItem",
    "WorkKind",
    "WorkLedger",
    "WorkQueue",
]
