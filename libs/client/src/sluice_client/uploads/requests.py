"""What a caller asks of an upload, and the streams that uploads share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What the caller wants."""

    drive: str
    path: str
    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    if_absent: bool = False
    sha256: bool | bytes = False
    chunk_size: int | None = None
    streams: int | None = None

    def digest(self) -> str:
        """Tells two sets of arguments of InitiateUpload apart; see `journal.Entry.arguments`."""
        told = [self.content_type, sorted(self.metadata.items()), self.if_absent, self.chunk_size]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


class ExtraStreams:
    """Streams beyond the first of each upload, shared by all uploads of a client.

    The first one is never refused: an upload without any stream could hold the very bytes that
    the server waits for, and everybody else would wait with it.
    """

    def __init__(self, count: int) -> None:
        self._free = count

    def take(self, wanted: int) -> int:
        taken = min(wanted, self._free)
        self._free -= taken
        return taken

    def give_back(self, count: int) -> None:
        self._free += count
