"""Arguments and results of the ledger's methods."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sluice_core.uploads.model import ChunkRef, PartPlan, UploadSnapshot


@dataclass(frozen=True, slots=True)
class ChunkOffer:
    """Chunk offered for admission; `token` is the private staging token of its bytes.

    `hold_bytes`: room to reserve from now on, None for the whole size. `staged` is False when only
    the checksum was computed, because the chunk was accepted before (`Admission.known`).
    """

    upload_id: str
    number: int
    size: int
    token: str
    is_last: bool = False
    force: bool = False
    hold_bytes: int | None = None
    staged: bool = True


@dataclass(frozen=True, slots=True)
class Admission:
    """Result of `admit_chunk`. If `granted`, read the bytes; otherwise wait or refuse the chunk.

    `reason` is BUDGET_FULL or LOOKAHEAD_EXCEEDED; `needed_number` is the chunk that would unblock
    the upload. `held_bytes` is the room reserved for the chunk now, which may exceed the request.
    `pressed` is True when other chunks wait for room. `known` is True when the chunk was accepted
    before and there is no room to stage it again; only its checksum is compared.
    """

    granted: bool
    reason: str = ""
    needed_number: int = 0
    held_bytes: int = 0
    pressed: bool = False
    known: bool = False


class Verdict(StrEnum):
    """Outcome of `accept_chunk`. Conflicts are raised, not returned."""

    NEW = "NEW"
    DUPLICATE = "DUPLICATE"
    REPLACED = "REPLACED"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Result of `accept_chunk`.

    `ready_parts` are the parts that this chunk made ready. The caller queues them, as a hint: the
    sweeper re-issues them. `drop_tokens` name staged bytes without a reference (the duplicate's or
    the replaced chunk's). The caller discards them.
    """

    verdict: Verdict
    chunk: ChunkRef
    snapshot: UploadSnapshot
    ready_parts: tuple[int, ...] = ()
    drop_tokens: tuple[str, ...] = ()
    completion_ready: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """Result of `request_completion`."""

    snapshot: UploadSnapshot
    ready_parts: tuple[int, ...] = ()
    completion_ready: bool = False


@dataclass(frozen=True, slots=True)
class Fence:
    """Fencing token (rule 15). The ledger refuses a write with an older one than its own."""

    nonce: str
    counter: int


@dataclass(frozen=True, slots=True)
class PartClaim:
    """Exclusive right to store one part, until the lease ends or is taken over.

    `single_put`: the part is the whole object; store it by one PUT without a multipart.
    `claimed_at`: seconds since the epoch by the ledger's clock, as the snapshot's times.
    """

    snapshot: UploadSnapshot
    plan: PartPlan
    size: int
    fence: Fence
    single_put: bool
    claimed_at: float


@dataclass(frozen=True, slots=True)
class StoredPartRecord:
    """Part in the object store. `sha256` is set only for a single PUT, computed on the way."""

    number: int
    etag: str
    size: int
    crc32c: int
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class CompletionClaim:
    """Exclusive right to complete one upload (rule 18)."""

    snapshot: UploadSnapshot
    fence: Fence
    part_count: int
    single_put: bool


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """Unpublished state transition (rule 22). `type` is the protobuf message name."""

    event_id: str
    upload_id: str
    node_id: str
    tenant: str
    type: str
    sequence: int
    occurred_at: float
    payload: bytes
    trace_parent: str = ""


@dataclass(frozen=True, slots=True)
class UploadPage:
    """Page of uploads, newest first; `next_after` is empty on the last page only."""

    uploads: tuple[UploadSnapshot, ...]
    next_after: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """Fill level of the chunk store, for gauges and pressure decisions."""

    queued_bytes: int
    reserved_bytes: int
    budget_bytes: int
    open_uploads: int
