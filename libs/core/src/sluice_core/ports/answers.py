"""What the ledger is asked with and what it answers: values, without behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sluice_core.uploads.model import ChunkRef, PartPlan, UploadSnapshot


@dataclass(frozen=True, slots=True)
class ChunkOffer:
    """A chunk that asks to come in; `token` is the private staging token of its bytes.

    `hold_bytes`: room that the chunk is to hold from now on, None for its whole size. Not `staged`:
    only its checksum was taken, because it was in already (`Admission.known`).
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
    """The answer to `admit_chunk`: with `granted`, the bytes may be read; else wait or refuse.

    `reason` is BUDGET_FULL or LOOKAHEAD_EXCEEDED; `needed_number` is the chunk that would let the
    upload move on. `held_bytes` is the room that the chunk holds now; it may be more than was asked
    for, and `pressed` says that others are waiting for room. `known`: the chunk is in already
    and there is no room to stage it again; its bytes are only to be compared, by their checksum.
    """

    granted: bool
    reason: str = ""
    needed_number: int = 0
    held_bytes: int = 0
    pressed: bool = False
    known: bool = False


class Verdict(StrEnum):
    """What `accept_chunk` did. CONFLICT and the like are raised, not returned."""

    NEW = "NEW"
    DUPLICATE = "DUPLICATE"
    REPLACED = "REPLACED"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of an accepted chunk.

    `ready_parts` are parts that this chunk made ready: the caller queues them (a hint: the
    sweeper re-issues them). `drop_tokens` are staged bytes that nothing names any more (the
    duplicate's own, or the replaced chunk's): the caller discards them.
    """

    verdict: Verdict
    chunk: ChunkRef
    snapshot: UploadSnapshot
    ready_parts: tuple[int, ...] = ()
    drop_tokens: tuple[str, ...] = ()
    completion_ready: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to `request_completion`."""

    snapshot: UploadSnapshot
    ready_parts: tuple[int, ...] = ()
    completion_ready: bool = False


@dataclass(frozen=True, slots=True)
class Fence:
    """Fencing token (rule 15): a write that carries an older one than the ledger's is refused."""

    nonce: str
    counter: int


@dataclass(frozen=True, slots=True)
class PartClaim:
    """The right to store one part, until the lease ends or is taken over.

    `single_put`: the part is the whole object, to be stored by one PUT without a multipart.
    `claimed_at`: in seconds since the epoch, by the ledger's clock, which the snapshot's times are
    of too.
    """

    snapshot: UploadSnapshot
    plan: PartPlan
    size: int
    fence: Fence
    single_put: bool
    claimed_at: float


@dataclass(frozen=True, slots=True)
class StoredPartRecord:
    """A part that the object store holds. `sha256` only for a single PUT (seen in passing)."""

    number: int
    etag: str
    size: int
    crc32c: int
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class CompletionClaim:
    """The right to complete one upload (rule 18)."""

    snapshot: UploadSnapshot
    fence: Fence
    part_count: int
    single_put: bool


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """A transition that awaits the relay (rule 22). `type` is the protobuf message name."""

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
    """One page of uploads, newest first; `next_after` is empty on the last page, and only there."""

    uploads: tuple[UploadSnapshot, ...]
    next_after: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """How full the chunk store is, for gauges and for pressure decisions."""

    queued_bytes: int
    reserved_bytes: int
    budget_bytes: int
    open_uploads: int
