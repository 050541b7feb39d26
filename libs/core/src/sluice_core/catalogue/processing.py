"""Processing results of nodes, as the catalogue stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sluice_core.uploads.model import ObjectRef

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


class ProcessingState(StrEnum):
    """Processing state of a node. QUEUED means that there is no result yet."""

    QUEUED = "QUEUED"
    PROCESSED = "PROCESSED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Thumbnail of a node. Node, ETag, size and format determine its key (rule 14)."""

    size: int
    """Requested longest side in pixels; the picture may be smaller."""
    width: int
    height: int
    content_type: str
    size_bytes: int
    crc32c: int
    etag: str
    object: ObjectRef


@dataclass(frozen=True, slots=True)
class Processing:
    """Processing result of one content of a node's object.

    `reason` and `detail` say why a node FAILED; the detail never contains anything read from the
    object. `repr` shows neither EXIF nor location.
    """

    etag: str
    """ETag of the processed content; the result is valid for this content only."""
    state: ProcessingState
    content_type: str = ""
    """Type detected from the first bytes, regardless of name and declared type."""
    reason: str = ""
    detail: str = ""
    width: int = 0
    """In pixels as displayed; 0 when the object is not a picture."""
    height: int = 0
    frames: int = 0
    damaged: bool = False
    """The file violates its format but decodes completely."""
    exif: Mapping[str, Json] = field(default_factory=dict, repr=False)
    location: Mapping[str, Json] | None = field(default=None, repr=False)
    """Where the picture was taken. Separate from `exif` because a drive's policy may drop it."""
    thumbnails: tuple[Thumbnail, ...] = ()
    processed_at: float = 0.0
    """Seconds since the epoch; set by the catalogue."""


class Recorded(StrEnum):
    """Outcome of recording a result."""

    RECORDED = "RECORDED"
    REPEATED = "REPEATED"
    """A result for this content exists: nothing changed, no event."""
    GONE = "GONE"
    """The node was deleted or superseded, or never existed: nothing changed."""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """Result of one node, to be recorded in the catalogue.

    `sha256` is of the whole content; None when the content was not read completely.
    """

    tenant: str
    node_id: str
    processing: Processing
    sha256: bytes | None = None
    trace_parent: str = ""
    is_requested: bool = False
    """Somebody asked for this result: a failure replaces an earlier one, and is published."""
