"""Load: photos that arrive at a constant rate, then the processor's latency of each.

python -m bench.load.photo_arrivals --target HOST:PORT --drive D --photos F --rate 2 --seconds 15
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
import uuid
from pathlib import Path
from typing import Final

import uvloop

from bench.latency import Latencies
from bench.load.lifecycle import report
from bench.load.schedule import Schedule
from sluice_client import Client, ClientOptions

_PROCESSED_SECONDS: Final = 60.0
_ASKING_SECONDS: Final = 0.05


async def run(options: argparse.Namespace) -> None:
    photos = [path.read_bytes() for path in sorted(options.photos.iterdir())]
    nodes: list[str] = []
    turns = itertools.cycle(photos)
    client_options = ClientOptions(repository_target=options.repository)
    async with Client(options.target, options=client_options) as client:

        async def send(content: bytes) -> None:
            path = f"arriving/{uuid.uuid4()}.jpg"
            nodes.append((await client.upload(content, drive=options.drive, path=path)).node_id)

        await send(photos[0])  # so that the decoders and the consumer group have started
        await _delay(client, nodes.pop(), time.perf_counter() + _PROCESSED_SECONDS)
        schedule = Schedule(seconds=options.seconds, rate=options.rate)
        async with asyncio.TaskGroup() as group:
            while await schedule.take() is not None:
                group.create_task(send(next(turns)))
        delays = Latencies()
        deadline = time.perf_counter() + _PROCESSED_SECONDS
        for node_id in nodes:
            delays.record(await _delay(client, node_id, deadline))
    await report({"photos": len(nodes), "delays": delays.to_json()}, linger=False)


async def _delay(client: Client, node_id: str, deadline: float) -> float:
    """Return the seconds from the event to the result. Raise RuntimeError for a photo that failed.

    Both times are by the server's clock, which is this machine's: `created_at` of the node is the
    time of its commit, with its event; `processed_at` is the time of its result. No results are
    queried while photos arrive.
    """
    while True:
        node = await client.stat(node_id=node_id)
        if (processing := node.processing) is not None:
            break
        if time.perf_counter() > deadline:
            raise RuntimeError(f"{node_id} has no result after {_PROCESSED_SECONDS:g} s")
        await asyncio.sleep(_ASKING_SECONDS)
    if not processing.thumbnails:
        raise RuntimeError(f"{node_id} has no thumbnails: {processing.reason} {processing.detail}")
    assert node.created_at is not None
    assert processing.processed_at is not None
    return (processing.processed_at - node.created_at).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--repository")
    parser.add_argument("--drive", required=True)
    parser.add_argument("--photos", type=Path, required=True, help="a folder; sent in turns")
    parser.add_argument("--rate", type=float, required=True, help="photos per second")
    parser.add_argument("--seconds", type=float, required=True)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
