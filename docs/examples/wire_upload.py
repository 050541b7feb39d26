"""Upload a file with the generated stubs alone, call by call (docs/wire.md).

python docs/examples/wire_upload.py HOST:PORT FILE
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1 import upload_pb2_grpc

BLOCK = 1024 * 1024


def blocks_of(upload_id: str, data: bytes, chunk_size: int) -> Iterator[pb.UploadStreamRequest]:
    """Yield a header per chunk with its first block, then the further blocks."""
    for number, at in enumerate(range(0, len(data), chunk_size)):
        chunk = data[at : at + chunk_size]
        header = pb.ChunkHeader(upload_id=upload_id, number=number, size=len(chunk))
        yield pb.UploadStreamRequest(header=header, data=chunk[:BLOCK])
        for begin in range(BLOCK, len(chunk), BLOCK):
            yield pb.UploadStreamRequest(data=chunk[begin : begin + BLOCK])


def main(server: str, file: Path) -> None:
    data = file.read_bytes()
    with grpc.insecure_channel(server) as channel:
        intake = upload_pb2_grpc.IntakeServiceStub(channel)
        limits = intake.GetLimits(pb.GetLimitsRequest())
        opened = intake.InitiateUpload(
            pb.InitiateUploadRequest(
                drive="examples",
                path=f"wire/{file.name}",
                chunk_size=limits.preferred_chunk_bytes,
                expected_size=len(data),
            )
        )
        for answer in intake.UploadStream(blocks_of(opened.upload_id, data, opened.chunk_size)):
            print(answer.WhichOneof("event"), end=" ", file=sys.stderr)
        done = intake.CompleteUpload(
            pb.CompleteUploadRequest(
                upload_id=opened.upload_id,
                total_chunks=-(-len(data) // opened.chunk_size),
                wait=Duration(seconds=30),
            )
        )
        print(pb.UploadState.Name(done.status.state), opened.node_id)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
