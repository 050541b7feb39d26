"""Observers that turn the messages of calls into observations."""

from __future__ import annotations

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2 as pb
from support.oracle.observations import ChunkInTransit, Content, Observations
from support.recorder import CallListener

_INTAKE = "/sluice.upload.v1.IntakeService/"
_REPOSITORY = "/sluice.repository.v1.RepositoryService/"


def listener_of(method: str, observations: Observations) -> CallListener:
    """Return the observer of a call of this method."""
    if method == f"{_INTAKE}InitiateUpload":
        return _Initiate(observations)
    if method == f"{_INTAKE}UploadStream":
        return _Stream(observations)
    if method == f"{_INTAKE}UploadChunk":
        return _Chunk(observations)
    if method == f"{_REPOSITORY}DeleteNode":
        return _Delete(observations)
    return _Status(observations, _WITH_STATUS.get(method))


class _IgnoringListener:
    """Base that ignores all messages."""

    def __init__(self, observations: Observations) -> None:
        self._observations = observations

    def request(self, message: bytes) -> None:
        """Nothing to note."""

    def answer(self, message: bytes) -> None:
        """Nothing to note."""


class _Initiate(_IgnoringListener):
    _asked = pb.InitiateUploadRequest()

    def request(self, message: bytes) -> None:
        self._asked = pb.InitiateUploadRequest.FromString(message)

    def answer(self, message: bytes) -> None:
        said, asked = pb.InitiateUploadResponse.FromString(message), self._asked
        upload = self._observations.initiated(said.upload_id, said.node_id, asked.drive, asked.path)
        if asked.HasField("inline_data"):
            content = Content.of(asked.inline_data)
            self._observations.sent(upload.upload_id, 0, content)
            accepted = pb.Accepted(number=0, size=content.size, crc32c=content.crc32c)
            self._observations.accepted(upload.upload_id, accepted, content, force=False)


class _Stream(_IgnoringListener):
    def __init__(self, observations: Observations) -> None:
        super().__init__(observations)
        self._upload_id = ""
        self._open: ChunkInTransit | None = None
        self._whole: dict[int, tuple[Content, bool]] = {}

    def request(self, message: bytes) -> None:
        asked = pb.UploadStreamRequest.FromString(message)
        if asked.HasField("header"):
            header = asked.header
            self._upload_id = header.upload_id or self._upload_id
            self._open = ChunkInTransit(header.number, header.size, force=header.force)
        chunk = self._open
        if chunk is None:
            return
        content = chunk.add(asked.data)
        if content is not None:
            self._whole[chunk.number] = (content, chunk.force)
            self._observations.sent(self._upload_id, chunk.number, content)
            self._open = None

    def answer(self, message: bytes) -> None:
        said = pb.UploadStreamResponse.FromString(message)
        event = said.WhichOneof("event")
        if event == "accepted":
            content, force = self._whole.get(said.accepted.number, (None, False))
            self._observations.accepted(self._upload_id, said.accepted, content, force=force)
        elif event == "stored":
            self._observations.stored(self._upload_id, said.stored.watermark)


class _Chunk(_IgnoringListener):
    _asked = pb.UploadChunkRequest()
    _content: Content | None = None

    def request(self, message: bytes) -> None:
        self._asked = pb.UploadChunkRequest.FromString(message)
        self._content = Content.of(self._asked.data)
        self._observations.sent(self._asked.upload_id, self._asked.number, self._content)

    def answer(self, message: bytes) -> None:
        said = pb.UploadChunkResponse.FromString(message).accepted
        asked = self._asked
        self._observations.accepted(asked.upload_id, said, self._content, force=asked.force)


class _Delete(_IgnoringListener):
    def answer(self, message: bytes) -> None:
        said = repository_pb2.DeleteNodeResponse.FromString(message)
        self._observations.deleted_nodes.add(said.node_id)


_AnswerWithStatus = (
    type[pb.CompleteUploadResponse]
    | type[pb.AbortUploadResponse]
    | type[pb.GetUploadStatusResponse]
    | type[pb.WatchUploadResponse]
)
_WITH_STATUS: dict[str, _AnswerWithStatus] = {
    f"{_INTAKE}CompleteUpload": pb.CompleteUploadResponse,
    f"{_INTAKE}AbortUpload": pb.AbortUploadResponse,
    f"{_INTAKE}GetUploadStatus": pb.GetUploadStatusResponse,
    f"{_INTAKE}WatchUpload": pb.WatchUploadResponse,
}


class _Status(_IgnoringListener):
    def __init__(self, observations: Observations, kind: _AnswerWithStatus | None) -> None:
        super().__init__(observations)
        self._kind = kind

    def answer(self, message: bytes) -> None:
        if self._kind is not None:
            self._observations.status(self._kind.FromString(message).status)
