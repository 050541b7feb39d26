"""Chunks into an intake, streamed or unary, from a process of their own.

The wire bytes of the blocks are made once, so that the generator costs as little as it can; every
chunk claims its CRC32C, which the intake verifies.

    python -m bench.load.intake --target HOST:PORT --mode stream --streams 4 --window 1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import uvloop
from awscrt.checksums import crc32c

from sluice.upload.v1 import upload_pb2, upload_pb2_grpc

BLOCK = 1024 * 1024
_SERVICE = "/sluice.upload.v1.IntakeService"
_CHANNEL = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass(slots=True)
class Figures:
    """What one run saw; times in seconds."""

    bytes: int = 0
    seconds: float = 0.0
    ack_after_last_byte: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)


class Payload:
    """One chunk of random bytes, as wire messages that are made once and sent often."""

    def __init__(self, chunk_bytes: int, block_bytes: int) -> None:
        self.size = chunk_bytes
        data = os.urandom(chunk_bytes)
        self.crc32c = crc32c(data)
        self.data = data
        self.blocks: Sequence[bytes] = [
            upload_pb2.UploadStreamRequest(data=data[at : at + block_bytes]).SerializeToString()
            for at in range(0, chunk_bytes, block_bytes)
        ]

    def header(self, upload_id: str, number: int) -> bytes:
        chunk = upload_pb2.ChunkHeader(
            upload_id=upload_id, number=number, size=self.size, crc32c=self.crc32c
        )
        return upload_pb2.UploadStreamRequest(header=chunk).SerializeToString()

    def unary(self, upload_id: str, number: int) -> bytes:
        return upload_pb2.UploadChunkRequest(
            upload_id=upload_id, number=number, data=self.data, crc32c=self.crc32c
        ).SerializeToString()


async def _initiate(channel: grpc.aio.Channel, name: str, chunk_bytes: int) -> str:
    stub = upload_pb2_grpc.IntakeServiceStub(channel)
    answer = await stub.InitiateUpload(
        upload_pb2.InitiateUploadRequest(drive="bench", path=name, chunk_size=chunk_bytes)
    )
    return answer.upload_id


async def _stream(
    channel: grpc.aio.Channel, name: str, payload: Payload, chunks: int, window: int, out: Figures
) -> None:
    """One stream: up to `window` chunks without an acknowledgement."""
    upload_id = await _initiate(channel, name, payload.size)
    method: Any = channel.stream_stream(
        f"{_SERVICE}/UploadStream",
        request_serializer=None,
        response_deserializer=upload_pb2.UploadStreamResponse.FromString,
    )
    call = method()
    last_byte: dict[int, float] = {}
    free = asyncio.Semaphore(window)

    async def read_acknowledgements() -> None:
        for _ in range(chunks):
            answer = await call.read()
            while answer.WhichOneof("event") != "accepted":
                answer = await call.read()
            out.ack_after_last_byte.append(
                time.perf_counter() - last_byte.pop(answer.accepted.number)
            )
            out.bytes += answer.accepted.size
            free.release()

    async with asyncio.TaskGroup() as group:
        group.create_task(read_acknowledgements())
        for number in range(chunks):
            await free.acquire()
            await call.write(payload.header(upload_id, number))
            for block in payload.blocks[:-1]:
                await call.write(block)
            # Noted before the write: the acknowledgement may be read before it returns.
            last_byte[number] = time.perf_counter()
            await call.write(payload.blocks[-1])
        await call.done_writing()


async def _unary(
    channel: grpc.aio.Channel, name: str, payload: Payload, chunks: int, out: Figures
) -> None:
    """One caller: the next chunk after the answer to the one before.

    The request is serialized before the clock starts: what is timed is the exchange.
    """
    upload_id = await _initiate(channel, name, payload.size)
    upload_chunk: Any = channel.unary_unary(
        f"{_SERVICE}/UploadChunk",
        request_serializer=None,
        response_deserializer=upload_pb2.UploadChunkResponse.FromString,
    )
    for number in range(chunks):
        request = payload.unary(upload_id, number)
        begun = time.perf_counter()
        answer = await upload_chunk(request)
        out.round_trips.append(time.perf_counter() - begun)
        out.bytes += answer.accepted.size


async def run(options: argparse.Namespace) -> Figures:
    figures = Figures()
    payload = Payload(options.chunk_bytes, options.block_bytes)
    async with grpc.aio.insecure_channel(options.target, options=_CHANNEL) as channel:
        await channel.channel_ready()
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for index in range(options.streams):
                name = f"{os.getpid()}-{time.time_ns()}-{index}"
                group.create_task(
                    _stream(channel, name, payload, options.chunks, options.window, figures)
                    if options.mode == "stream"
                    else _unary(channel, name, payload, options.chunks, figures)
                )
        figures.seconds = time.perf_counter() - begun
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--mode", choices=("stream", "unary"), default="stream")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--chunks", type=int, default=64, help="of each stream or caller")
    parser.add_argument("--window", type=int, default=1, help="unacknowledged chunks per stream")
    parser.add_argument("--chunk-bytes", type=int, default=16 * BLOCK)
    parser.add_argument("--block-bytes", type=int, default=BLOCK)
    figures = uvloop.run(run(parser.parse_args()))
    print(
        json.dumps(
            {
                "bytes": figures.bytes,
                "seconds": figures.seconds,
                "ack_after_last_byte": figures.ack_after_last_byte,
                "round_trips": figures.round_trips,
            }
        )
    )


if __name__ == "__main__":
    main()
