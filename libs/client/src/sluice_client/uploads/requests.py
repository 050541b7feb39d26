"""Request of an upload, and the streams that uploads share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """Arguments of one upload."""

    drive: str
    path: str
    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    if_absent: bool = False
    sha256: bool | bytes = False
    chunk_size: int | None = None
    streams: int | None = None

    def digest(self) -> str:
        """Return a digest that differs for other arguments of InitiateUpload; see
        `Entry.arguments`.
        """
        arguments = [
            self.content_type,
            sorted(self.metadata.items()),
            self.if_absent,
            self.chunk_size,
        ]
        return hashlib.sha256(json.dumps(arguments).encode()).hexdigest()[:16]


class ExtraStreams:
    """Streams beyond the first of each upload, shared by all uploads of a client.

    The first stream is never refused: an upload without a stream could hold the very bytes that the
    server waits for, and block all other uploads.
    """

    def __init__(self, count: int) -> None:
        self._free = count

    def take(self, count: int) -> int:
        taken = min(count, self._free)
        self._free -= taken
        return taken

    def give_back(self, count: int) -> None:
        self._free += count
