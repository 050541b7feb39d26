"""Load of one tenant: paced streams, whose uploads are aborted at the end.

python -m bench.load.tenant --target HOST:PORT --token-file F --streams 10 --pace 10e6 --flood
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import grpc.aio
import uvloop

from bench.load.chunk_sender import Figures, LoadFailedError, Sender, Upload
from bench.load.lifecycle import abort, await_start, connected, open_uploads, report
from bench.load.payload import Payload
from bench.load.schedule import Pace, Schedule
from bench.units import MIB

_FULL_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.02


async def until_full(figures: Figures, streams: int, limit: float = _FULL_SECONDS) -> None:
    """Wait until the intake has delayed as many chunks as there are streams.

    Raise LoadFailedError when it does not within `limit` seconds.
    """
    deadline = time.monotonic() + limit
    while figures.throttled < streams:
        if time.monotonic() > deadline:
            raise LoadFailedError(f"the budget was not full after {limit:g} s; send more")
        await asyncio.sleep(_POLL_SECONDS)


async def _send(
    channels: Sequence[grpc.aio.Channel],
    uploads: Sequence[Upload],
    sender: Sender,
    pace: float,
    begun: float,
) -> None:
    async with asyncio.TaskGroup() as group:
        for index, upload in enumerate(uploads):
            # Spread over the time of a chunk, as independent clients are.
            offset = index / len(uploads) * sender.payload.chunk_bytes / pace
            group.create_task(
                sender.by_stream(
                    channels[index % len(channels)], upload, Pace(pace, begun + offset)
                )
            )


async def _measured(
    channels: Sequence[grpc.aio.Channel], sender: Sender, options: argparse.Namespace
) -> dict[str, object]:
    """Send for `--seconds`, or, with --flood, from before the start signal until a second one."""
    uploads = await open_uploads(channels, options.drive, options.chunk_bytes, options.streams)
    figures, schedule = sender.out, sender.schedule
    if not options.flood:
        await await_start()
        schedule.restart()
    cpu, begun = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        group.create_task(_send(channels, uploads, sender, options.pace, begun))
        throttled_before = 0
        if options.flood:
            await until_full(figures, options.streams)
            throttled_before = figures.throttled
            await await_start()
            schedule.end()
    used = time.process_time() - cpu
    for upload in uploads:
        await abort(channels[0], upload)
    return {
        **figures.to_json(begun, figures.acknowledged_at, used),
        "uploads": len(uploads),
        "throttled_when_full": figures.throttled - throttled_before,
    }


async def run(options: argparse.Namespace) -> None:
    """Print what bench/load/uploads.py prints, with the chunks that were delayed since the budget
    was full (`throttled_when_full`).
    """
    payload = Payload("random", options.chunk_bytes, MIB)
    async with connected(options.target, options.connections, options.token_file) as channels:
        schedule = Schedule(seconds=float("inf") if options.flood else options.seconds)
        sender = Sender(payload, schedule, options.window, Figures())
        await report(await _measured(channels, sender, options), linger=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True, help="address of the intake")
    parser.add_argument("--token-file", type=Path, help="token of the tenant")
    parser.add_argument("--drive", default="bench")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--window", type=int, default=2, help="unacknowledged chunks per stream")
    parser.add_argument("--chunk-bytes", type=int, default=256 * 1024)
    parser.add_argument(
        "--pace", type=float, required=True, help="bytes per second of each stream (open loop)"
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=float)
    length.add_argument(
        "--flood",
        action="store_true",
        help='send at once, say {"ready": true} when the budget is full, '
        "and stop at a line on standard input",
    )
    parser.add_argument("--in-step", action="store_true", help="always; for bench.processes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    uvloop.run(run(parse()))
