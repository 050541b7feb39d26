"""Load: jobs of 100 files, then posts of progress, one call after the other.

python -m bench.load.gateway_calls --gateway URL --jobs 100 --files 100 --posts 500
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from typing import Final

import uvloop

from bench.latency import Latencies
from bench.load.gateway_client import Gateway, gateway
from bench.load.lifecycle import await_start, report
from bench.units import MB

_SEED: Final = 11


async def _jobs(user: Gateway, number: int, sizes: Sequence[int]) -> tuple[Latencies, list[str]]:
    """Create jobs; return the latencies, and the photos of the last job."""
    latencies, photos = Latencies(), []
    for _ in range(number):
        began = time.perf_counter()
        job = await user.create_job(sizes)
        latencies.record(time.perf_counter() - began)
        photos = [item["photoId"] for item in job["items"]]
    return latencies, photos


async def _progress(
    user: Gateway, photos: Sequence[str], sizes: Sequence[int], posts: int
) -> Latencies:
    """Post the progress of the photos in turns, each further than before."""
    latencies = Latencies()
    rounds = -(-posts // len(photos))
    for post in range(posts):
        turn, index = divmod(post, len(photos))
        sent = sizes[index] * (turn + 1) // (rounds + 1)
        body = {"photoId": photos[index], "bytesSent": sent, "bytesTotal": sizes[index]}
        began = time.perf_counter()
        answer = await user.ok("POST", "/commands/upload/progress", body)
        latencies.record(time.perf_counter() - began)
        if answer["accepted"] != 1:
            raise RuntimeError(f"a report of progress was ignored: {answer}")
    return latencies


async def run(options: argparse.Namespace) -> None:
    """Print the latencies of both, from before a request until its whole answer is read."""
    drawn = random.Random(_SEED)
    sizes = [drawn.randint(int(2 * MB), int(6 * MB)) for _ in range(options.files)]
    async with gateway(options.gateway) as anybody:
        user = await anybody.registered()
        await user.create_job(sizes)
        await await_start()
        cpu, begun = time.process_time(), time.perf_counter()
        create, photos = await _jobs(user, options.jobs, sizes)
        progress = await _progress(user, photos, sizes, options.posts)
        figures = {
            "create": create.to_json(),
            "progress": progress.to_json(),
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - cpu,
        }
        await report(figures, linger=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", required=True, help="URL of the API")
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--files", type=int, default=100, help="of a job")
    parser.add_argument("--posts", type=int, default=500, help="of progress")
    parser.add_argument("--in-step", action="store_true", help="always; for bench.processes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    uvloop.run(run(parse()))
