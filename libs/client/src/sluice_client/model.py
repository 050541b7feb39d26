"""What the SDK hands out: immutable values, no protobuf, no behaviour. Sizes are bytes."""

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
    """Where an upload stands; the last four are terminal."""

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
    """What "accepted" means on a deployment."""

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
    """Sizes and lifetimes that a server works with."""

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
    """Where pictures were taken is neither kept nor shown."""


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
    """What came of looking at a node's content."""

    PROCESSED = "PROCESSED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture of a node; `size` is the longest side that was asked for, in pixels."""

    size: int
    width: int
    height: int
    content_type: str
    size_bytes: int
    crc32c: int


@dataclass(frozen=True, slots=True)
class Processing:
    """What the processor found in a node's content."""

    state: ProcessingState
    reason: str
    """Why it FAILED: a stable word; `detail` is for people."""
    detail: str
    content_type: str
    """What the first bytes say, whatever was declared."""
    width: int
    """Pixels as shown; 0 for what is no picture."""
    height: int
    frames: int
    exif: Mapping[str, Any]
    location: Mapping[str, Any] | None
    """Where the picture was taken, if that is known and kept."""
    thumbnails: tuple[Thumbnail, ...]
    processed_at: datetime | None
    damaged: bool = False
    """The file is not as its format wants it; what is shown of it is whole all the same."""


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
    """Of `stat` only; None until the processor has looked at the node."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """The version of a local file, for comparison with a record of it.

    The change time tells content that was written under a modification time set back.
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
    """When it was claimed, or known to the server at completion."""
    sent_bytes: int
    """Bytes that went over the wire, those sent twice counted twice."""
    skipped_bytes: int
    """Bytes that the server already had from an earlier run."""
    restarts: int
    """How often the upload had to begin anew (server lost it, source had changed)."""
    seconds: float
    source_identity: FileIdentity | None = None
    """Of the file that was read, as it was when it was opened; None when the source was no file."""


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """A finished download whose bytes were verified where the whole node was read."""

    node: Node
    size: int
    """Bytes received."""
    verified: bool
    """CRC32C and size compared with the node's; False for a range."""
    data: bytes | None
    """The bytes, when no destination was given."""
    seconds: float
