"""Immutable values of uploads. Times are seconds since the epoch by the ledger's clock (one clock
per deployment), sizes are bytes; chunks count from 0, parts from 1 as in S3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

FORMAT_VERSION = 1
"""Version of all stored upload state; readers accept this version and the previous one."""

MAX_CHUNKS = 1_000_000
"""Chunks of one upload (protocol.md, rule 3)."""

MIB = 1024 * 1024
MAX_BLOCK_BYTES = MIB
MAX_CHUNK_BYTES = 64 * MIB
MAX_UNARY_MESSAGE_BYTES = 32 * MIB
MAX_INLINE_BYTES = MIB
MAX_OBJECT_BYTES = 5 * 1024 * 1024 * MIB
MIN_PART_BYTES = 5 * MIB
"""S3 refuses smaller parts before the last one (EntityTooSmall)."""
MAX_PART_BYTES = 5 * 1024 * MIB
MAX_PARTS = 10_000
DEFAULT_PART_BYTES = 8 * MIB


class UploadStatus(StrEnum):
    """State of an upload; `states.py` has the transitions."""

    PENDING = "PENDING"
    UPLOADING = "UPLOADING"
    COMPLETING = "COMPLETING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    EXPIRED = "EXPIRED"


class Integrity(StrEnum):
    """SHA-256 policy of a drive (protocol.md, rule 20); CRC32C is always verified."""

    CRC = "crc"
    SHA256_ASYNC = "sha256_async"
    SHA256_BEFORE_VISIBLE = "sha256_before_visible"


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Location of an object in the object store."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class NewUpload:
    """Everything that `InitiateUpload` fixes; it never changes afterwards.

    `fingerprint` is a digest of the caller's arguments: the same upload id with another
    fingerprint is a conflict (`request_id`, protocol.md).
    """

    upload_id: str
    node_id: str
    tenant: str
    subject: str
    drive: str
    path: str
    content_type: str
    fingerprint: str
    object: ObjectRef
    part_bytes: int
    integrity: Integrity = Integrity.SHA256_ASYNC
    expected_size: int | None = None
    chunk_size: int | None = None
    sha256: bytes | None = None
    crc32c: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    if_absent: bool = False
    storage_class: str = ""
    encryption: str = ""
    trace_parent: str = ""

    @property
    def owner(self) -> UploadOwner:
        return UploadOwner(self.tenant, self.subject, self.drive)


@dataclass(frozen=True, slots=True)
class UploadOwner:
    """Who opened an upload, and the drive of its node."""

    tenant: str
    subject: str
    drive: str


@dataclass(frozen=True, slots=True)
class UploadSnapshot:
    """State of one upload at sequence number `sequence`."""

    new: NewUpload
    status: UploadStatus
    sequence: int
    created_at: float
    updated_at: float
    expires_at: float
    received_bytes: int = 0
    received_chunks: int = 0
    stored_bytes: int = 0
    stored_chunks: int = 0
    stored_watermark: int = 0
    """Every chunk below this number is in a stored part."""
    stored_parts: int = 0
    """Parts below `stored_watermark`."""
    needed_number: int = 0
    """The first missing chunk; the number of chunks when none is missing."""
    highest_number: int = -1
    total_chunks: int | None = None
    multipart_id: str = ""
    crc32c: int | None = None
    sha256: bytes | None = None
    failure_reason: str = ""
    failure_detail: str = ""
    ended_at: float | None = None
    completing_at: float | None = None
    """When CompleteUpload was last accepted, by the ledger's clock."""

    @property
    def upload_id(self) -> str:
        return self.new.upload_id


@dataclass(frozen=True, slots=True)
class ChunkRange:
    """The chunks first, first + 1, …, last."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class MissingChunks:
    """Gaps in order; `truncated` when there are more than requested."""

    ranges: tuple[ChunkRange, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """Received chunk; `token` names its bytes in the chunk store."""

    number: int
    size: int
    crc32c: int
    token: str


@dataclass(frozen=True, slots=True)
class PartPlan:
    """Part `number`, with the chunks first_chunk … last_chunk.

    last_chunk = first_chunk − 1 for the only part of an empty object.
    """

    number: int
    first_chunk: int
    last_chunk: int
