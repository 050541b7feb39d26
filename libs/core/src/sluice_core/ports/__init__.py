"""The coordination ports: who holds which bytes, and what is to be done next.

Rules bound to these ports are numbered as in docs/protocol.md. Every adapter passes
tests/contract/. All methods are coroutine-safe: any number of callers at once.

Any method may raise `Unavailable` when its backend does not answer; nothing has then changed, or
the same call again finds what it did (every method is idempotent).
"""

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
    UploadLedger,
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
    "ChunkOffer",
    "ChunkStore",
    "Completion",
    "CompletionClaim",
    "Delivery",
    "Fence",
    "LedgerEvent",
    "PartClaim",
    "QueueDepth",
    "StagedChunk",
    "StoredPartRecord",
    "UploadLedger",
    "UploadPage",
    "Verdict",
    "WorkItem",
    "WorkKind",
    "WorkQueue",
]
