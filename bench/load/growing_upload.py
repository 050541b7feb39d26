"""Load: one upload that grows to very many chunks, compared with young uploads.

python -m bench.load.growing_upload --target HOST:PORT --chunks 100000 --step 2000 --rounds 5
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc.aio
import psutil
import uvloop

from bench.load.chunk_sender import Figures, Sender, Upload
from bench.load.lifecycle import connected, open_upload, report
from bench.load.payload import Payload
from bench.load.schedule import Schedule

_MARKS: Final = 100


class Growing:
    """One run.

    The cost of a chunk is measured on both in turns, so that other load on the machine affects
    both: `--step` chunks into the large upload once it holds `--chunks`, then as many into a new
    one that holds `--young` chunks. The CPU of the processes named by `--watch NAME=PID` is read
    around each. Prints

        {"growth": [seconds per chunk, one for every `marks_every` chunks],
         "rounds": [{"old": …, "young": …}]}

    where `old` and `young` are {"seconds", "cpu": {NAME: seconds}} per chunk.
    """

    def __init__(self, channel: grpc.aio.Channel, options: argparse.Namespace) -> None:
        self._channel = channel
        self._options = options
        self._payload = Payload("random", options.chunk_bytes, options.chunk_bytes)
        self._watched = {
            name: psutil.Process(int(pid))
            for name, _, pid in (each.partition("=") for each in options.watch)
        }

    async def run(self) -> Mapping[str, object]:
        options = self._options
        old = await self._open()
        step = max(1, options.chunks // _MARKS)
        growth = []
        while old.total < options.chunks:
            growth.append((await self._measured(old, step))["seconds"])
        rounds = []
        for _ in range(options.rounds):
            young = await self._open()
            await self._send(young, options.young)
            rounds.append(
                {
                    "old": await self._measured(old, options.step),
                    "young": await self._measured(young, options.step),
                }
            )
        return {"growth": growth, "marks_every": step, "chunks": old.total, "rounds": rounds}

    async def _open(self) -> Upload:
        return await open_upload(self._channel, self._options.drive, self._options.chunk_bytes)

    async def _send(self, upload: Upload, chunks: int) -> None:
        """Send chunks. Raise RuntimeError for a failed chunk: retries would be measured."""
        figures = Figures()
        sender = Sender(self._payload, Schedule(chunks=chunks), self._options.window, figures)
        await sender.by_stream(self._channel, upload)
        if figures.errors:
            raise RuntimeError(f"chunks failed: {dict(figures.errors)}")

    async def _measured(self, upload: Upload, chunks: int) -> dict[str, Any]:
        """Return the cost of each of these chunks."""
        cpu, begun = self._cpu(), time.perf_counter()
        await self._send(upload, chunks)
        seconds, after = time.perf_counter() - begun, self._cpu()
        return {
            "seconds": seconds / chunks,
            "cpu": {name: (after[name] - cpu[name]) / chunks for name in cpu},
        }

    def _cpu(self) -> dict[str, float]:
        times = {name: process.cpu_times() for name, process in self._watched.items()}
        return {name: used.user + used.system for name, used in times.items()}


async def run(options: argparse.Namespace) -> None:
    async with connected(options.target, 1) as (channel,):
        await report(await Growing(channel, options).run(), linger=False)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True, help="address of the intake")
    parser.add_argument("--drive", default="bench")
    parser.add_argument("--chunks", type=int, default=100_000, help="in the large upload")
    parser.add_argument("--young", type=int, default=1_000, help="in each upload beside it")
    parser.add_argument("--step", type=int, default=2_000, help="chunks that are measured at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunk-bytes", type=int, default=16 * 1024)
    parser.add_argument("--window", type=int, default=16, help="unacknowledged chunks")
    parser.add_argument("--watch", action="append", default=[], metavar="NAME=PID")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    uvloop.run(run(parse()))
