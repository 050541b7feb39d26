"""What the processor makes of a node: values that the catalogue keeps beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sluice_core.uploads.model import ObjectRef

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


class ProcessingState(StrEnum):
    """Where a node stands on its way through the processor. QUEUED is one without a result."""

    QUEUED = "QUEUED"
    PROCESSED = "PROCESSED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture of a node. Its key follows from node, ETag, size and format (rule 14)."""

    size: int
    """The longest side that was asked for, in pixels; the picture may be smaller."""
    width: int
    height: int
    content_type: str
    size_bytes: int
    crc32c: int
    etag: str
    object: ObjectRef


@dataclass(frozen=True, slots=True)
class Processing:
    """One result, of one content of a node's object.

    `reason` and `detail` say why a node FAILED; the detail never holds anything that was read
    out of the object. `repr` shows neither EXIF nor location.
    """

    etag: str
    """Of the object that was looked at: a result counts for this content only."""
    state: ProcessingState
    content_type: str = ""
    """What the first bytes say, whatever name and declared type say."""
    reason: str = ""
    detail: str = ""
    width: int = 0
    """Pixels as shown; 0 for what is no picture."""
    height: int = 0
    frames: int = 0
    damaged: bool = False
    """The file is not as its format wants it, and what is shown of it is whole all the same."""
    exif: Mapping[str, Json] = field(default_factory=dict, repr=False)
    location: Mapping[str, Json] | None = field(default=None, repr=False)
    """Where it was taken, kept apart: a drive's policy may drop it."""
    thumbnails: tuple[Thumbnail, ...] = ()
    processed_at: float = 0.0
    """Seconds since the epoch; the catalogue fills it in."""


class Recorded(StrEnum):
    """What became of a result that was to be recorded."""

    RECORDED = "RECORDED"
    REPEATED = "REPEATED"
    """There was one for this content already: nothing changed, no event."""
    GONE = "GONE"
    """The node was deleted or superseded meanwhile, or never was: nothing changed."""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What was found in a node, on its way into the catalogue.

    `sha256` is of the whole content, None when it was not read whole.
    """

    tenant: str
    node_id: str
    processing: Processing
    sha256: bytes | None = None
    trace_parent: str = ""
