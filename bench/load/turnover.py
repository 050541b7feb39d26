"""Load: uploads that begin, are sent and completed, one after the other, for a long time.

python -m bench.load.turnover --target HOST:PORT --streams 4 --chunks 16 --seconds 600
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence

import grpc.aio
import uvloop

from bench.load.chunk_sender import Figures, Sender
from bench.load.lifecycle import (
    EndedOtherwiseError,
    await_start,
    complete,
    connected,
    open_upload,
    report,
)
from bench.load.payload import Payload
from bench.load.schedule import Schedule
from bench.units import MIB

_PAUSE_SECONDS = 0.1


class Turnover:
    """The workers of one run, `--streams` of them, each with one upload of `--chunks` chunks at a
    time.

    Prints what bench/load/uploads.py prints, and the number of completed uploads.
    """

    def __init__(self, payload: Payload, options: argparse.Namespace) -> None:
        self._payload = payload
        self._options = options
        self.figures = Figures()
        self.completed = 0
        self._begun = 0

    async def work(self, channel: grpc.aio.Channel, since: float, until: float) -> None:
        """Run one upload after the other until the time is up."""
        while await self._may_begin(since, until):
            try:
                await self._one_upload(channel)
            except grpc.aio.AioRpcError as error:
                self.figures.errors[error.code().name] += 1
                await asyncio.sleep(_PAUSE_SECONDS)
            except EndedOtherwiseError as error:
                self.figures.errors[str(error)] += 1

    async def _may_begin(self, since: float, until: float) -> bool:
        """Wait for the turn of the next upload. Return False when the time is up."""
        rate, now = self._options.uploads_per_second, time.perf_counter()
        due = now if rate is None else max(now, since + self._begun / rate)
        if due >= until:
            return False
        self._begun += 1
        await asyncio.sleep(due - now)
        return True

    async def _one_upload(self, channel: grpc.aio.Channel) -> None:
        options = self._options
        upload = await open_upload(channel, options.drive, options.chunk_bytes)
        schedule = Schedule(chunks=options.chunks)
        await Sender(self._payload, schedule, options.window, self.figures).by_stream(
            channel, upload
        )
        await complete(channel, upload)
        self.completed += 1


async def run(options: argparse.Namespace) -> None:
    payload = Payload("random", options.chunk_bytes, MIB)
    async with connected(options.target, options.streams) as channels:
        if options.in_step:
            await await_start()
        turnover = Turnover(payload, options)
        cpu, begun = time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for channel in channels:
                group.create_task(turnover.work(channel, begun, begun + options.seconds))
        ended, used = time.perf_counter(), time.process_time() - cpu
        figures = turnover.figures.to_json(begun, ended, used)
        await report({**figures, "uploads": turnover.completed}, linger=options.in_step)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True, help="address of the intake")
    parser.add_argument("--drive", default="bench")
    parser.add_argument("--streams", type=int, default=4, help="uploads at once")
    parser.add_argument("--chunks", type=int, default=16, help="of each upload")
    parser.add_argument("--chunk-bytes", type=int, default=8 * MIB)
    parser.add_argument("--window", type=int, default=2, help="unacknowledged chunks per stream")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument(
        "--uploads-per-second", type=float, help="in all; default: as fast as they complete"
    )
    parser.add_argument("--in-step", action="store_true", help="as bench/load/uploads.py has it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    uvloop.run(run(parse()))
