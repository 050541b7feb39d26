"""Load: a storm of calls that their clients cancel, streams and unary chunks, at random moments.

python -m bench.load.cancellations --target HOST:PORT --callers 20 --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import grpc.aio
import uvloop

from bench.load.chunk_sender import Figures, Sender, Upload, upload_chunk, upload_stream
from bench.load.lifecycle import await_start, complete, connected, open_upload, report
from bench.load.payload import Payload
from bench.load.schedule import Schedule
from bench.units import MIB

_CHANNELS: Final = 4
_CALLS_PER_UPLOAD: Final = 100
_ONE_GOES_THROUGH: Final = 10
_LONGEST_SECONDS: Final = 0.02
"""A call is cancelled at a random moment before this."""
_NOTED_EACH: Final = 1.0


class Storm:
    """The callers of one run.

    Each caller begins a call, sends a part of it and cancels it, again and again; every tenth call
    completes, so that a working server is measured. Prints

        {"seconds", "cancelled", "finished", "errors": {CODE: calls},
         "cancelled_until": [[monotonic time, calls], …] of each second}
    """

    def __init__(self, payload: Payload, options: argparse.Namespace) -> None:
        self._payload = payload
        self._options = options
        self._random = random.Random(0)
        self.cancelled = 0
        self.finished = 0
        self.errors: Counter[str] = Counter()
        self.cancelled_until: list[tuple[float, int]] = []

    async def note(self, every_seconds: float) -> None:
        """Note how many calls have been cancelled, until this is cancelled itself."""
        while True:
            self.cancelled_until.append((time.monotonic(), self.cancelled))
            await asyncio.sleep(every_seconds)

    async def call(self, channel: grpc.aio.Channel, until: float) -> None:
        """Make calls one after the other, `_CALLS_PER_UPLOAD` of them for one upload."""
        while time.perf_counter() < until:
            try:
                upload = await open_upload(channel, self._options.drive, self._payload.chunk_bytes)
                for number in range(_CALLS_PER_UPLOAD):
                    if number % _ONE_GOES_THROUGH == 0:
                        await self._finish_call(channel, upload)
                    elif number % 2:
                        await self._cancel_stream(channel, upload)
                    else:
                        await self._cancel_unary(channel, upload)
                # The chunks cancelled before are completed with it: then nothing is missing.
                await self._finish_call(channel, upload)
                await complete(channel, upload)
            except grpc.aio.AioRpcError as error:
                self.errors[error.code().name] += 1

    async def _finish_call(self, channel: grpc.aio.Channel, upload: Upload) -> None:
        figures = Figures()
        await Sender(self._payload, Schedule(chunks=1), 1, figures).by_stream(channel, upload)
        self.errors.update(figures.errors)
        self.finished += 1

    async def _cancel_stream(self, channel: grpc.aio.Channel, upload: Upload) -> None:
        """Cancel between two blocks, or while the answer is awaited.

        The chunk's number is one that the upload will have: another call sends the cancelled chunk.
        """
        content = self._payload.content(0)
        call = upload_stream(channel)()
        try:
            async with asyncio.timeout(self._random.uniform(0, _LONGEST_SECONDS)):
                await call.write(content.header(upload.upload_id, upload.total))
                # The last block is never sent, so the chunk is never complete.
                for block in content.blocks[:-1]:
                    await call.write(block)
                await call.read()
        except (TimeoutError, asyncio.InvalidStateError):
            pass  # the expected result
        finally:
            call.cancel()
        self._count(await call.code())

    async def _cancel_unary(self, channel: grpc.aio.Channel, upload: Upload) -> None:
        number = upload.next_number()
        call = upload_chunk(channel)(self._payload.content(0).unary(upload.upload_id, number))
        try:
            async with asyncio.timeout(self._random.uniform(0, _LONGEST_SECONDS)):
                await call
            self.finished += 1
            return
        except TimeoutError:
            upload.again.append(number)
        except grpc.aio.AioRpcError:
            upload.again.append(number)
        finally:
            call.cancel()
        self._count(await call.code())

    def _count(self, code: grpc.StatusCode) -> None:
        if code is grpc.StatusCode.CANCELLED:
            self.cancelled += 1
        elif code is grpc.StatusCode.OK:
            self.finished += 1  # its answer arrived at the moment of the cancellation
        else:
            self.errors[code.name] += 1


async def run(options: argparse.Namespace) -> None:
    payload = Payload("random", options.chunk_bytes, min(MIB, options.chunk_bytes // 4))
    async with connected(options.target, _CHANNELS) as channels:
        if options.in_step:
            await await_start()
        storm = Storm(payload, options)
        begun = time.perf_counter()
        notes = asyncio.create_task(storm.note(min(_NOTED_EACH, options.seconds / 20)))
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(options.callers):
                    channel = channels[index % len(channels)]
                    group.create_task(storm.call(channel, begun + options.seconds))
        finally:
            notes.cancel()
        await report(
            {
                "seconds": time.perf_counter() - begun,
                "cancelled": storm.cancelled,
                "finished": storm.finished,
                "errors": dict(storm.errors),
                "cancelled_until": storm.cancelled_until,
            },
            linger=options.in_step,
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True, help="address of the intake")
    parser.add_argument("--drive", default="bench")
    parser.add_argument("--callers", type=int, default=20)
    parser.add_argument("--chunk-bytes", type=int, default=MIB)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--in-step", action="store_true", help="as bench/load/uploads.py has it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    uvloop.run(run(parse()))
