"""Inspection ports: what operators see of an upload, and nothing in operation reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sluice_core.ports.outbox import OutboxRow
from sluice_core.uploads.model import ObjectRef, UploadSnapshot


class PartState(StrEnum):
    """FILLING lacks chunks (again), READY awaits a worker, STORED is in the object store."""

    FILLING = "FILLING"
    READY = "READY"
    STORED = "STORED"


@dataclass(frozen=True, slots=True)
class Lease:
    """Hold of a worker, with the counter of its fence. A past lease holds until it is taken."""

    holder: str
    counter: int
    until: float


@dataclass(frozen=True, slots=True)
class InspectedPart:
    """One part of an upload. `etag` is empty and `crc32c` None until it is stored."""

    number: int
    first_chunk: int
    last_chunk: int
    state: PartState
    received_chunks: int
    size: int
    etag: str
    crc32c: int | None
    lease: Lease | None


@dataclass(frozen=True, slots=True)
class InspectedUpload:
    """State of one upload at `now`, by the ledger's clock, with what its snapshot leaves out."""

    snapshot: UploadSnapshot
    now: float
    queued_bytes: int
    rejected_chunks: int
    completion_lease: Lease | None
    events_pending: int
    events_withheld_until: float
    """Time of the next attempt to publish its events; 0 when the publisher refused none."""
    cleanups_done: int
    next_cleanup_at: float | None


@dataclass(frozen=True, slots=True)
class WorkLeft:
    """Uploads with work of repositories left. One upload may count in several."""

    completing: int
    with_ready_parts: int
    """Parts are ready from their last chunk until they are stored, also under a lease."""
    with_events: int
    """With events that are not published, withheld ones included."""


class InspectionLedger(Protocol):
    """Reads for operators. They change nothing, not even what is due."""

    async def inspect(self, upload_id: str) -> InspectedUpload: ...

    async def inspect_parts(
        self, upload_id: str, after_number: int, limit: int
    ) -> Sequence[InspectedPart]:
        """Return parts in any state in order, starting after `after_number`."""
        ...

    async def work_left(self) -> WorkLeft: ...


class NodeState(StrEnum):
    """State of a node's row. The last two are tombstones."""

    LIVE = "LIVE"
    SUPERSEDED = "SUPERSEDED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class InspectedNode:
    """Row of a node in any state. `processing` is empty before the processor's first result."""

    node_id: str
    upload_id: str
    tenant: str
    drive: str
    path: str
    state: NodeState
    size: int
    crc32c: int
    version: int
    created_at: float
    updated_at: float
    processing: str
    processing_reason: str


@dataclass(frozen=True, slots=True)
class InspectedOutboxRow:
    row: OutboxRow
    withheld: bool


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    rows: int
    withheld: int


class Reference(StrEnum):
    """Why the catalogue knows an object, most important first."""

    NODE = "NODE"
    THUMBNAIL = "THUMBNAIL"
    PHOTO = "PHOTO"
    """A photo whose client puts the object itself."""
    INTENT = "INTENT"
    """An open upload, or one whose leftovers the sweeper removes."""
    DELETION = "DELETION"
    """Scheduled for deletion."""


class InspectionCatalogue(Protocol):
    """Reads for operators, across tenants."""

    async def inspect_node(self, node_id: str) -> InspectedNode | None: ...

    async def outbox_of(self, key: str, limit: int) -> Sequence[InspectedOutboxRow]:
        """Return the first unpublished rows of a key, in insertion order."""
        ...

    async def count_outbox(self) -> OutboxCounts: ...

    async def references(self, refs: Sequence[ObjectRef]) -> Mapping[ObjectRef, Reference]:
        """Return those of the objects that the catalogue knows, with the reason."""
        ...
