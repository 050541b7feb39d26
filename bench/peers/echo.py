"""Bare grpc.aio server with the intake's messages: the cost of the library alone.

python -m bench.peers.echo --ready-file F          serves until SIGTERM
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import uuid
from pathlib import Path
from typing import Any, Final

from sluice_common.process.malloc import tune_malloc

tune_malloc()

import grpc  # noqa: E402 - malloc is tuned before grpc allocates
import grpc.aio  # noqa: E402
import uvloop  # noqa: E402

from sluice.upload.v1 import upload_pb2 as pb  # noqa: E402
from sluice_common.rpc.frames import (  # noqa: E402
    Frame,
    Header,
    read_chunk_frame,
    read_stream_frame,
)
from sluice_common.rpc.server import build_server  # noqa: E402
from sluice_common.settings.rpc_options import ServerOptions  # noqa: E402

SERVICE: Final = pb.DESCRIPTOR.services_by_name["IntakeService"].full_name
_END: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it


async def initiate(request: pb.InitiateUploadRequest, context: Any) -> pb.InitiateUploadResponse:
    return pb.InitiateUploadResponse(upload_id=uuid.uuid4().hex, node_id=uuid.uuid4().hex)


async def upload_stream(_requests: object, context: Any) -> None:
    """Answer every chunk once its last block is in."""
    header, missing_bytes = Header("", 0, 0, None, is_last=False, force=False), 0
    while (frame := await context.read()) is not _END:
        if frame.header is not None:
            header = frame.header
            missing_bytes = header.size
        missing_bytes -= len(frame.data)
        if missing_bytes == 0:
            await context.write(pb.UploadStreamResponse(accepted=_accepted(header)))


async def upload_chunk(frame: Frame, context: Any) -> pb.UploadChunkResponse:
    assert frame.header is not None
    return pb.UploadChunkResponse(accepted=_accepted(frame.header))


def _accepted(header: Header) -> pb.Accepted:
    return pb.Accepted(number=header.number, size=header.size, crc32c=header.crc32c or 0)


def handlers() -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Return the handlers of the calls that bench.load.uploads makes, so that the client is the
    same.

    InitiateUpload answers a name; each chunk of UploadStream and each UploadChunk its Accepted. The
    messages are the intake's, byte for byte; nothing is verified and nothing is kept. Event loop,
    malloc, channel options and the reader that slices payload out of a message are the intake's.
    """
    return {
        "InitiateUpload": grpc.unary_unary_rpc_method_handler(
            initiate,
            pb.InitiateUploadRequest.FromString,
            pb.InitiateUploadResponse.SerializeToString,
        ),
        "UploadStream": grpc.stream_stream_rpc_method_handler(
            upload_stream, read_stream_frame, pb.UploadStreamResponse.SerializeToString
        ),
        "UploadChunk": grpc.unary_unary_rpc_method_handler(
            upload_chunk, read_chunk_frame, pb.UploadChunkResponse.SerializeToString
        ),
    }


async def serve(ready: Path) -> None:
    server = build_server(ServerOptions())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers()),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await asyncio.to_thread(ready.write_text, f"127.0.0.1:{port}\n", encoding="utf-8")
    await stop.wait()
    await server.stop(grace=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready-file", type=Path, required=True)
    uvloop.run(serve(parser.parse_args().ready_file))


if __name__ == "__main__":
    main()
