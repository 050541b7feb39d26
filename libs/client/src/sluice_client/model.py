"""Values that the SDK returns: immutable, no protobuf, no behaviour. Sizes are bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

KIB = 1024
MIB = 1024 * KIB
BLOCK_BYTES = MIB
"""Largest block on the wire (docs/protocol.md, rule 5)."""


class UploadState(StrEnum):
    """State of an upload; the last four are terminal."""

    UNKNOWN = "UNKNOWN"
    PENDING = "PENDING"
    UPLOADING = "UPLOADING"
    COMPLETING = "COMPLETING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    EXPIRED = "EXPIRED"

    @property
    def terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset(
    {UploadState.COMPLETED, UploadState.FAILED, UploadState.ABORTED, UploadState.EXPIRED}
)


class Durability(StrEnum):
    """Meaning of "accepted" on a deployment."""

    UNKNOWN = "unknown"
    MEMORY = "memory"
    REPLICATED = "replicated"
    FSYNC = "fsync"


class Integrity(StrEnum):
    """A drive's policy for SHA-256 (rule 20); CRC32C is always verified."""

    CRC = "crc"
    SHA256_ASYNC = "sha256_async"
    SHA256_BEFORE_VISIBLE = "sha256_before_visible"


@dataclass(frozen=True, slots=True)
class ChunkRange:
    """The chunks first, first + 1, …, last."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes and lifetimes of a server."""

    max_block_bytes: int
    max_chunk_bytes: int
    max_unary_message_bytes: int
    preferred_chunk_bytes: int
    part_bytes: int
    max_object_bytes: int
    max_chunks: int
    max_inline_bytes: int
    idle_lifetime: timedelta
    total_lifetime: timedelta
    durability: Durability
    look_ahead_bytes: int
    uploads_per_minute: int
    """0 means no limit."""
    bytes_per_second: int
    """0 means no limit."""
    calls_per_second: int = 0
    """0 means no limit."""


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """One upload as the server saw it at `sequence`."""

    upload_id: str
    node_id: str
    drive: str
    path: str
    state: UploadState
    sequence: int
    received_bytes: int
    received_chunks: int
    stored_bytes: int
    stored_chunks: int
    total_chunks: int | None
    expected_size: int | None
    chunk_size: int | None
    missing: tuple[ChunkRange, ...]
    """While the total is unknown: the gaps below the highest received chunk."""
    missing_truncated: bool
    failure_reason: str
    failure_detail: str
    created_at: datetime | None
    updated_at: datetime | None
    expires_at: datetime | None
    crc32c: int | None
    sha256: bytes | None


class Access(StrEnum):
    """Who may use a drive, beside the scopes of their token."""

    TENANT = "tenant"
    """The whole tenant."""
    GRANTS = "grants"
    """Only subjects and groups with a grant, and administrators of the tenant."""


class Role(StrEnum):
    """Role on a drive; each includes the ones before it."""

    READER = "reader"
    """Reads nodes."""
    WRITER = "writer"
    """Also uploads, changes and deletes nodes."""
    OWNER = "owner"
    """Also aborts other people's uploads and changes policy and grants."""
    UNKNOWN = "unknown"
    """A role that this release does not know."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A role of a subject or of a group on a drive; the other name is empty."""

    subject: str
    group: str
    role: Role
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A change that was made or refused. `outcome`: "OK", or the reason of the refusal.

    `object`: `drive/NAME` or `node/ID`, for a grant followed by the role and its receiver, for a
    policy by its new values (`access=grants`). `peer`:
    host of the caller. `count`: equal refusals that the entry stands for.
    """

    time: datetime | None
    subject: str
    action: str
    object: str
    outcome: str
    request_id: str
    peer: str
    count: int


@dataclass(frozen=True, slots=True)
class Quota:
    """Upper limits of a drive or a tenant; 0 means no limit of this kind."""

    max_bytes: int = 0
    max_nodes: int = 0
    max_open_uploads: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What counts against a quota.

    `bytes` and `nodes` are those of nodes, `reserved_bytes` and `open_uploads` those of open
    uploads that began under a quota.
    """

    quota: Quota
    bytes: int
    nodes: int
    reserved_bytes: int
    open_uploads: int


@dataclass(frozen=True, slots=True)
class DrivePolicy:
    """Policies of a drive."""

    integrity: Integrity = Integrity.SHA256_ASYNC
    part_bytes: int = 0
    """0 means the server's default."""
    require_uniform: bool = False
    read_only: bool = False
    storage_class: str = ""
    encryption: str = ""
    drop_location: bool = False
    """Neither keep nor show where pictures were taken."""
    access: Access = Access.TENANT


@dataclass(frozen=True, slots=True)
class Drive:
    """A named container of nodes."""

    name: str
    bucket: str
    key_prefix: str
    policy: DrivePolicy
    created_at: datetime | None
    updated_at: datetime | None


class ProcessingState(StrEnum):
    """Result of processing a node's content."""

    PROCESSED = "PROCESSED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Small picture of a node; `size` is the requested longest side in pixels."""

    size: int
    width: int
    height: int
    content_type: str
    size_bytes: int
    crc32c: int


@dataclass(frozen=True, slots=True)
class Processing:
    """The processor's results for a node's content."""

    state: ProcessingState
    reason: str
    """Cause of FAILED: a stable word; `detail` is for people."""
    detail: str
    content_type: str
    """Type detected from the first bytes, whatever was declared."""
    width: int
    """Pixels as shown; 0 if the node is not a picture."""
    height: int
    frames: int
    exif: Mapping[str, Any]
    location: Mapping[str, Any] | None
    """Where the picture was taken, if known and kept."""
    thumbnails: tuple[Thumbnail, ...]
    processed_at: datetime | None
    damaged: bool = False
    """The file violates its format; the results shown are complete all the same."""


@dataclass(frozen=True, slots=True)
class Node:
    """The durable record of one stored object."""

    node_id: str
    drive: str
    path: str
    size: int
    content_type: str
    crc32c: int
    sha256: bytes | None
    version: int
    created_at: datetime | None
    updated_at: datetime | None
    metadata: Mapping[str, str] = field(default_factory=dict)
    processing: Processing | None = None
    """Set by `stat` only; None until the processor has handled the node."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Version of a local file, for comparison with a record of it.

    The change time detects new content whose modification time was set back.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


@dataclass(frozen=True, slots=True)
class UploadResult:
    """A finished upload: the node is visible."""

    upload_id: str
    node_id: str
    drive: str
    path: str
    size: int
    crc32c: int
    sha256: bytes | None
    """Set when it was claimed, or known to the server at completion."""
    sent_bytes: int
    """Bytes sent over the wire; bytes sent twice count twice."""
    skipped_bytes: int
    """Bytes that the server already had from an earlier run."""
    restarts: int
    """How often the upload restarted (the server lost it, or the source had changed)."""
    seconds: float
    source_identity: FileIdentity | None = None
    """Version of the file when it was opened; None when the source was not a file."""


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """A finished download; its bytes are verified if the whole node was read."""

    node: Node
    size: int
    """Bytes received."""
    verified: bool
    """CRC32C and size compared with the node's; False for a range."""
    data: bytes | None
    """The bytes, when no destination was given."""
    seconds: float
