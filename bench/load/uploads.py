"""Load of most scenarios: uploads into an intake, from a separate process.

python -m bench.load.uploads --target HOST:PORT --streams 4 --window 2 --seconds 5
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import grpc.aio
import uvloop

from bench.load.chunk_sender import Figures, Sender
from bench.load.lifecycle import await_start, complete, connected, open_uploads, report
from bench.load.payload import Payload
from bench.load.schedule import Schedule
from bench.units import MIB


async def measure(
    channels: Sequence[grpc.aio.Channel],
    payload: Payload,
    options: argparse.Namespace,
    *,
    chunks: int | None,
    seconds: float | None,
) -> dict[str, object]:
    """Send into new uploads until so many chunks are sent or so much time has passed.

    The wire messages are serialized once, to keep the generator cheap; every chunk claims its
    CRC32C, which the intake verifies. The figures, printed as one line of JSON, are

        {"bytes", "chunks", "seconds", "acknowledged_seconds", "cpu_seconds", "uploads",
         "throttled", "errors": {CODE: chunks}, "ack_after_last_byte": …,
         "round_trips": …, "since_due": …}

    `seconds`: until the last acknowledgement, or with --complete until every upload is COMPLETED.
    The three latencies are of `bench.latency.Latencies.to_json`.
    """
    uploads = await open_uploads(channels, options.drive, options.chunk_bytes, options.uploads)
    figures = Figures()
    cpu, begun = time.process_time(), time.perf_counter()
    schedule = Schedule(chunks=chunks, seconds=seconds, rate=options.rate)
    sender = Sender(payload, schedule, options.window, figures)
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
    used = time.process_time() - cpu
    return {**figures.to_json(begun, ended, used), "uploads": len(uploads)}


async def run(options: argparse.Namespace) -> None:
    payload = Payload(options.payload, options.chunk_bytes, options.block_bytes)
    async with connected(options.target, options.connections, options.token_file) as channels:
        if options.warm_up:
            await measure(channels, payload, options, chunks=None, seconds=options.warm_up)
        if options.in_step:
            await await_start()
        done = await measure(
            channels, payload, options, chunks=options.chunks, seconds=options.seconds
        )
        await report(done, linger=options.in_step)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True, help="address of the intake")
    parser.add_argument("--token-file", type=Path, help="token that every call carries")
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
