"""One upload of a fake intake."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from sluice.upload.v1 import upload_pb2


@dataclass(slots=True)
class FakeUpload:
    """One upload and the chunks that were acknowledged to its client."""

    upload_id: str
    request: upload_pb2.InitiateUploadRequest
    chunks: dict[int, bytes] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    total: int | None = None
    state: upload_pb2.UploadState.ValueType = upload_pb2.UPLOAD_STATE_PENDING
    sequence: int = 1
    claimed_crc32c: int | None = None
    claimed_sha256: bytes | None = None
    failure: tuple[str, str] = ("", "")

    @property
    def data(self) -> bytes:
        return b"".join(self.chunks[number] for number in sorted(self.chunks))

    @property
    def first_missing(self) -> int:
        return next(number for number in count() if number not in self.chunks)

    def status(self, max_ranges: int) -> upload_pb2.UploadStatus:
        """Return the status; while the total is unknown, gaps end below the highest chunk."""
        end = self.total if self.total is not None else max(self.chunks, default=-1) + 1
        gaps: list[upload_pb2.ChunkRange] = []
        for number in range(end):
            if number in self.chunks:
                continue
            if gaps and gaps[-1].last == number - 1:
                gaps[-1].last = number
            else:
                gaps.append(upload_pb2.ChunkRange(first=number, last=number))
        is_truncated = len(gaps) > max_ranges
        gaps = gaps[:max_ranges]
        known_to = gaps[-1].last if is_truncated else end
        self.acknowledged |= {number for number in self.chunks if number < known_to}
        return upload_pb2.UploadStatus(
            upload_id=self.upload_id,
            node_id=f"node-{self.upload_id}",
            drive=self.request.drive,
            path=self.request.path,
            state=self.state,
            sequence=self.sequence,
            received_bytes=sum(map(len, self.chunks.values())),
            received_chunks=len(self.chunks),
            total_chunks=self.total,
            missing=gaps,
            missing_truncated=is_truncated,
            failure_reason=self.failure[0],
            failure_detail=self.failure[1],
        )
