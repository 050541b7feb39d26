"""Uploads into an intake, from a process of their own: the load of nearly every scenario.

The wire messages are made once, so that the generator costs as little as it can; every chunk claims
its CRC32C, which the intake verifies. Prints one JSON line:

    {"bytes", "chunks", "seconds", "acknowledged_seconds", "cpu_seconds", "uploads", "throttled",
     "errors": {CODE: chunks}, "ack_after_last_byte": …, "round_trips": …, "since_due": …, "marks"}

`seconds`: until the last acknowledgement, or with --complete until every upload is COMPLETED. The
three latencies are as `bench.latency.Latencies.to_json` has them.

    python -m bench.load.uploads --target HOST:PORT --streams 4 --window 2 --seconds 5
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import grpc.aio
import uvloop

from bench.load.lifecycle import CHANNEL, await_start, complete, open_upload, report
from bench.load.payload import MIB, Payload
from bench.load.schedule import Schedule
from bench.load.sending import Figures, Sender, Upload

_OPENED_AT_ONCE: Final = 50


@dataclass(slots=True)
class Run:
    """One measured stretch."""

    figures: Figures
    begun: float
    ended: float
    cpu_seconds: float
    uploads: int

    def to_json(self) -> dict[str, object]:
        out = self.figures
        return {
            "bytes": out.bytes,
            "chunks": out.chunks,
            "seconds": self.ended - self.begun,
            "acknowledged_seconds": out.acknowledged_at - self.begun,
            "cpu_seconds": self.cpu_seconds,
            "uploads": self.uploads,
            "throttled": out.throttled,
            "errors": dict(out.errors),
            "ack_after_last_byte": out.ack_after_last_byte.to_json(),
            "round_trips": out.round_trips.to_json(),
            "since_due": out.since_due.to_json(),
            "marks": [at - self.begun for at in out.marks],
        }


async def _open(
    channels: Sequence[grpc.aio.Channel], options: argparse.Namespace
) -> Sequence[Upload]:
    """New uploads, `--uploads` of them."""
    room = asyncio.Semaphore(_OPENED_AT_ONCE)

    async def one(index: int) -> Upload:
        async with room:
            return await open_upload(
                channels[index % len(channels)], options.drive, options.chunk_bytes
            )

    return await asyncio.gather(*(one(index) for index in range(options.uploads)))


async def measure(
    channels: Sequence[grpc.aio.Channel],
    payload: Payload,
    options: argparse.Namespace,
    *,
    chunks: int | None,
    seconds: float | None,
) -> Run:
    """Send into new uploads until so many chunks are in or so much time has passed."""
    uploads = await _open(channels, options)
    figures = Figures()
    cpu, begun = time.process_time(), time.perf_counter()
    schedule = Schedule(chunks=chunks, seconds=seconds, rate=options.rate)
    sender = Sender(payload, schedule, options.window, figures, options.mark_every)
    send = sender.by_stream if options.mode == "stream" else sender.by_calls
    async with asyncio.TaskGroup() as group:
        for index in range(options.streams):
            channel = channels[index % len(channels)]
            group.create_task(send(channel, uploads[index % len(uploads)]))
    ended = figures.acknowledged_at
    if options.complete:
        async with asyncio.TaskGroup() as group:
            for index, upload in enumerate(upload for upload in uploads if upload.total):
                group.create_task(complete(channels[index % len(channels)], upload))
        ended = time.perf_counter()
    return Run(figures, begun, ended, time.process_time() - cpu, len(uploads))


async def run(options: argparse.Namespace) -> None:
    payload = Payload(options.payload, options.chunk_bytes, options.block_bytes)
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(options.target, options=CHANNEL)
            )
            for _ in range(options.connections)
        ]
        for channel in channels:
            await channel.channel_ready()
        if options.warm_up:
            await measure(channels, payload, options, chunks=None, seconds=options.warm_up)
        if options.in_step:
            await await_start()
        done = await measure(
            channels, payload, options, chunks=options.chunks, seconds=options.seconds
        )
        await report(done.to_json(), linger=options.in_step)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True, help="address of the intake")
    parser.add_argument("--drive", default="bench")
    parser.add_argument("--mode", choices=("stream", "unary"), default="stream")
    parser.add_argument("--streams", type=int, default=1, help="streams, or callers, at once")
    parser.add_argument("--uploads", type=int, help="that they belong to; default: one for each")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--window", type=int, default=1, help="unacknowledged chunks per stream")
    parser.add_argument("--chunk-bytes", type=int, default=16 * MIB)
    parser.add_argument("--block-bytes", type=int, default=MIB)
    parser.add_argument("--payload", default="random", help="random, zeros or file:PATH")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--chunks", type=int, help="in all, over all streams")
    length.add_argument("--seconds", type=float)
    parser.add_argument(
        "--rate",
        type=float,
        help="chunks per second in all (open loop); default: as fast as it can",
    )
    parser.add_argument("--warm-up", type=float, default=0.0, help="seconds, not measured")
    parser.add_argument("--complete", action="store_true", help="and wait until COMPLETED")
    parser.add_argument("--mark-every", type=int, default=0, help="note when so many are in")
    parser.add_argument(
        "--in-step",
        action="store_true",
        help='say {"ready": true} when warm, begin at a line on standard input, '
        "and keep the connections until it ends",
    )
    options = parser.parse_args(arguments)
    options.uploads = options.uploads or options.streams
    return options


if __name__ == "__main__":
    uvloop.run(run(parse()))
