"""Load: many uploads that are open at once, a few of them streaming.

python -m bench.load.open_uploads --target HOST:PORT --uploads 950 --streams 50 --seconds 5
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, Final

import grpc.aio
import uvloop

from bench.load.chunk_sender import Figures, Sender, upload_stream
from bench.load.lifecycle import (
    OPENED_AT_ONCE,
    await_start,
    connected,
    open_upload,
    open_uploads,
    report,
)
from bench.load.payload import Content, Payload
from bench.load.schedule import Pace, Schedule
from bench.units import MIB

_SMALL: Final = Content.of(bytes(1024), 1024)


class Idle:
    """Upload whose stream is open and silent, after one small acknowledged chunk."""

    def __init__(self, call: Any) -> None:
        self._call = call

    @classmethod
    async def open(cls, channel: grpc.aio.Channel, drive: str) -> Idle:
        upload = await open_upload(channel, drive, len(_SMALL.data))
        call = upload_stream(channel)()
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


def _paces(options: argparse.Namespace, begun: float) -> Sequence[Pace | None]:
    """Return one pace per stream.

    Their starts are spread over the time of a chunk, as those of independent clients; equal in
    every run.
    """
    if options.pace is None:
        return [None] * options.streams
    drawn, chunk_seconds = random.Random(0), options.chunk_bytes / options.pace
    return [
        Pace(options.pace, begun + drawn.uniform(0, chunk_seconds)) for _ in range(options.streams)
    ]


async def run(options: argparse.Namespace) -> None:
    """Open `--uploads` idle uploads, then send with `--streams` more and measure those.

    The latter send as fast as they can or at `--pace`. Prints what bench/load/uploads.py prints.
    """
    payload = Payload("random", options.chunk_bytes, MIB)
    room = asyncio.Semaphore(OPENED_AT_ONCE)
    async with connected(options.target, options.connections) as channels:

        async def idle(index: int) -> Idle:
            async with room:
                return await Idle.open(channels[index % len(channels)], options.drive)

        idles = await asyncio.gather(*(idle(index) for index in range(options.uploads)))
        uploads = await open_uploads(channels, options.drive, options.chunk_bytes, options.streams)
        if options.in_step:
            await await_start()
        figures = Figures()
        cpu, begun = time.process_time(), time.perf_counter()
        sender = Sender(payload, Schedule(seconds=options.seconds), options.window, figures)
        async with asyncio.TaskGroup() as group:
            for index, pace in enumerate(_paces(options, begun)):
                channel = channels[index % len(channels)]
                group.create_task(sender.by_stream(channel, uploads[index], pace))
        used = time.process_time() - cpu
        still_open = sum(one.is_open for one in idles)
        for one in idles:
            one.close()
        await report(
            {
                **figures.to_json(begun, figures.acknowledged_at, used),
                "uploads": len(uploads),
                "idle_streams": still_open,
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
        "--pace",
        type=float,
        help="bytes per second of each stream (open loop); default: as fast as it can",
    )
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--window", type=int, default=1, help="unacknowledged chunks per stream")
    parser.add_argument("--chunk-bytes", type=int, default=8 * MIB)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--in-step", action="store_true", help="as bench/load/uploads.py has it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    uvloop.run(run(parse()))
