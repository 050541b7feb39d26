"""Many uploads that are open at once, a few of them streaming.

`--uploads` uploads are begun; each has a stream of its own, over which one small chunk was
acknowledged, and which stays open. Then `--streams` more uploads send, at full speed or at a
constant rate. Prints what bench/load/uploads.py prints of the latter.

    python -m bench.load.many_open --target HOST:PORT --uploads 950 --streams 50 --seconds 5
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import grpc.aio
import uvloop

from bench.load.lifecycle import CHANNEL, await_start, open_upload, report
from bench.load.payload import MIB, Content, Payload
from bench.load.schedule import Schedule
from bench.load.sending import Figures, Sender
from sluice.upload.v1 import upload_pb2

_SMALL: Final = Content.of(bytes(1024), 1024)
_OPENED_AT_ONCE: Final = 50


class Idle:
    """An upload whose stream is open and silent."""

    def __init__(self, call: Any) -> None:
        self._call = call

    @classmethod
    async def open(cls, channel: grpc.aio.Channel, drive: str) -> Idle:
        upload = await open_upload(channel, drive, len(_SMALL.data))
        method: Any = channel.stream_stream(
            "/sluice.upload.v1.IntakeService/UploadStream",
            request_serializer=None,
            response_deserializer=upload_pb2.UploadStreamResponse.FromString,
        )
        call = method()
        await call.write(_SMALL.header(upload.upload_id, 0))
        await call.write(_SMALL.blocks[0])
        answer = await call.read()
        if answer.WhichOneof("event") != "accepted":
            raise RuntimeError(f"not acknowledged: {answer}")
        return cls(call)

    @property
    def is_open(self) -> bool:
        return not self._call.done()

    def close(self) -> None:
        self._call.cancel()


async def run(options: argparse.Namespace) -> None:
    payload = Payload("random", options.chunk_bytes, MIB)
    room = asyncio.Semaphore(_OPENED_AT_ONCE)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        channels = [
            await enter(grpc.aio.insecure_channel(options.target, options=CHANNEL))
            for _ in range(options.connections)
        ]
        for channel in channels:
            await channel.channel_ready()

        async def idle(index: int) -> Idle:
            async with room:
                return await Idle.open(channels[index % len(channels)], options.drive)

        idles = await asyncio.gather(*(idle(index) for index in range(options.uploads)))
        if options.in_step:
            await await_start()
        figures = Figures()
        uploads = [
            await open_upload(channels[index % len(channels)], options.drive, options.chunk_bytes)
            for index in range(options.streams)
        ]
        cpu, begun = time.process_time(), time.perf_counter()
        schedule = Schedule(seconds=options.seconds, rate=options.rate)
        sender = Sender(payload, schedule, options.window, figures)
        async with asyncio.TaskGroup() as group:
            for index, upload in enumerate(uploads):
                group.create_task(sender.by_stream(channels[index % len(channels)], upload))
        still_open = sum(one.is_open for one in idles)
        for one in idles:
            one.close()
        await report(
            {
                "bytes": figures.bytes,
                "chunks": figures.chunks,
                "seconds": figures.acknowledged_at - begun,
                "cpu_seconds": time.process_time() - cpu,
                "uploads": len(uploads),
                "idle_streams": still_open,
                "throttled": figures.throttled,
                "errors": dict(figures.errors),
                "ack_after_last_byte": figures.ack_after_last_byte.to_json(),
                "round_trips": figures.round_trips.to_json(),
                "since_due": figures.since_due.to_json(),
            },
            linger=options.in_step,
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True, help="address of the intake")
    parser.add_argument("--drive", default="bench")
    parser.add_argument("--uploads", type=int, default=950, help="that are open and silent")
    parser.add_argument("--streams", type=int, default=50, help="that send")
    parser.add_argument(
        "--rate",
        type=float,
        help="chunks per second in all (open loop); default: as fast as it can",
    )
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--window", type=int, default=1, help="unacknowledged chunks per stream")
    parser.add_argument("--chunk-bytes", type=int, default=8 * MIB)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--in-step", action="store_true", help="as bench/load/uploads.py has it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    uvloop.run(run(parse()))
