"""Observed uploads and chunks: content, level and time of acknowledgement."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from enum import StrEnum

from sluice.upload.v1 import upload_pb2 as pb
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c

ENDS: dict[int, str] = {
    pb.UPLOAD_STATE_COMPLETED: "UploadCompleted",
    pb.UPLOAD_STATE_FAILED: "UploadFailed",
    pb.UPLOAD_STATE_ABORTED: "UploadAborted",
    pb.UPLOAD_STATE_EXPIRED: "UploadExpired",
}
"""Terminal state → the event of its transition."""


@dataclass(frozen=True, slots=True)
class Content:
    """Size and digests of a chunk, in place of its bytes."""

    size: int
    crc32c: int
    sha256: bytes

    @classmethod
    def of(cls, data: bytes) -> Content:
        return cls(len(data), crc32c(data), hashlib.sha256(data).digest())


class Level(StrEnum):
    """The highest level that the server has acknowledged."""

    ACCEPTED = "ACCEPTED"
    STORED = "STORED"


@dataclass(slots=True)
class Acknowledged:
    """A chunk that the server has acknowledged."""

    content: Content
    at: float
    as_new: bool
    """Not acknowledged as a duplicate."""
    level: Level = Level.ACCEPTED


@dataclass(slots=True)
class ObservedUpload:
    """One upload as its clients saw it."""

    upload_id: str
    node_id: str
    drive: str
    path: str
    sent: dict[int, set[Content]] = field(default_factory=dict)
    """Every complete content that was sent under a number."""
    acknowledged: dict[int, Acknowledged] = field(default_factory=dict)
    ends: set[int] = field(default_factory=set)
    """Observed terminal states."""
    total_chunks: int | None = None
    lost: set[int] = field(default_factory=set)
    """Acknowledged chunks that were missing later, whether or not they were sent again."""
    vanished: bool = False
    """The server reports the upload as unknown."""

    @property
    def completed(self) -> bool:
        return pb.UPLOAD_STATE_COMPLETED in self.ends

    def content_of(self, number: int) -> Content:
        """Return the required content of chunk `number` of the object."""
        if number in self.acknowledged:
            return self.acknowledged[number].content
        candidates = self.sent.get(number, set())
        assert len(candidates) == 1, (
            f"chunk {number} of {self.upload_id} was completed, and {len(candidates)} different "
            "contents of it were sent, none of them acknowledged"
        )
        return next(iter(candidates))


class Observations:
    """All observations so far, and the contradictions among them."""

    def __init__(self) -> None:
        self.uploads: dict[str, ObservedUpload] = {}
        self.deleted_nodes: set[str] = set()
        self.contradictions: list[str] = []

    @property
    def lost_chunks(self) -> int:
        return sum(len(upload.lost) for upload in self.uploads.values())

    def initiated(self, upload_id: str, node_id: str, drive: str, path: str) -> ObservedUpload:
        known = self.uploads.get(upload_id)
        if known is None:
            known = self.uploads[upload_id] = ObservedUpload(upload_id, node_id, drive, path)
        elif known.node_id != node_id:
            self._contradiction(f"upload {upload_id} has the nodes {known.node_id}, {node_id}")
        return known

    def sent(self, upload_id: str, number: int, content: Content) -> None:
        upload = self.uploads.get(upload_id)
        if upload is not None:
            upload.sent.setdefault(number, set()).add(content)

    def accepted(
        self, upload_id: str, said: pb.Accepted, content: Content | None, *, force: bool
    ) -> None:
        """Record that the server acknowledged a chunk of this call."""
        chunk = f"chunk {said.number} of {upload_id}"
        upload = self.uploads.get(upload_id)
        if upload is None:
            self._contradiction(f"{chunk} was accepted, but its upload was never initiated")
            return
        if content is None:
            self._contradiction(f"{chunk} was accepted before it was sent whole")
            return
        if (said.size, said.crc32c) != (content.size, content.crc32c):
            self._contradiction(f"{chunk} was accepted as other bytes than were sent")
            return
        before = upload.acknowledged.get(said.number)
        if before is None or force:
            as_new = not said.duplicate
            upload.acknowledged[said.number] = Acknowledged(content, time.time(), as_new)
        elif before.content != content:
            self._contradiction(f"{chunk} was accepted with two different contents")
        elif before.as_new and not said.duplicate:
            upload.lost.add(said.number)  # a chunk that is new twice was lost in between

    def stored(self, upload_id: str, watermark: int) -> None:
        upload = self.uploads.get(upload_id)
        if upload is None:
            return
        for number, chunk in upload.acknowledged.items():
            if number < watermark:
                chunk.level = Level.STORED

    def status(self, status: pb.UploadStatus) -> None:
        """Record the upload's state from any answer."""
        upload = self.initiated(status.upload_id, status.node_id, status.drive, status.path)
        if status.HasField("total_chunks"):
            upload.total_chunks = status.total_chunks
        if status.state in ENDS:
            upload.ends.add(status.state)
            if len(upload.ends) > 1:
                names = ", ".join(sorted(ENDS[end] for end in upload.ends))
                self._contradiction(f"upload {upload.upload_id} ended in several ways: {names}")

    def _contradiction(self, text: str) -> None:
        self.contradictions.append(text)


class ChunkInTransit:
    """Accumulates the content of one chunk from its blocks."""

    def __init__(self, number: int, size: int, *, force: bool) -> None:
        self.number = number
        self.force = force
        self._size = size
        self._seen = 0
        self._crc = EMPTY_CRC32C
        self._sha256 = hashlib.sha256()

    def add(self, data: bytes) -> Content | None:
        """Add a block; return the content once the chunk is complete."""
        self._seen += len(data)
        self._crc = crc32c(data, self._crc)
        self._sha256.update(data)
        if self._seen != self._size:
            return None
        return Content(self._size, self._crc, self._sha256.digest())
