"""Load: files through the SDK, as a user's program would send them, until all are COMPLETED.

python -m bench.load.files --target HOST:PORT --drive D --prefix P --files F --in-flight 100
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop

from bench.load.lifecycle import await_start, report
from sluice_client import Client, ClientOptions
from sluice_client.errors import SluiceError


@dataclass(slots=True)
class Figures:
    """Figures of one run; times in seconds."""

    bytes: int = 0
    objects: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    round_trips: list[float] = field(default_factory=list)
    """Of each file, from the first call until it was COMPLETED."""
    errors: Counter[str] = field(default_factory=Counter)


async def _upload(client: Client, options: argparse.Namespace, path: Path, out: Figures) -> None:
    begun = time.perf_counter()
    try:
        result = await client.upload(
            path,
            drive=options.drive,
            path=f"{options.prefix}/{path.name}",
            # s3transfer keeps no journal either.
            resume=False,
            streams=options.streams,
        )
    except SluiceError as error:
        out.errors[error.reason] += 1
        return
    out.round_trips.append(time.perf_counter() - begun)
    out.bytes += result.size
    out.objects += 1


async def run(options: argparse.Namespace) -> None:
    """Send the files; the connection is open and the limits are known before the clock starts."""
    figures = Figures()
    files = sorted(path for path in options.files.iterdir() if path.is_file())
    waiting = iter(files)

    async def sender(client: Client) -> None:
        for path in waiting:
            await _upload(client, options, path, figures)

    client_options = ClientOptions(
        repository_target=options.repository, connections=options.connections
    )
    async with Client(options.target, token=options.token_file, options=client_options) as client:
        await client.limits()
        if options.in_step:
            await await_start()
        cpu, begun = time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(options.in_flight, len(files))):
                group.create_task(sender(client))
        figures.seconds = time.perf_counter() - begun
        figures.cpu_seconds = time.process_time() - cpu
        await report({**asdict(figures), "errors": dict(figures.errors)}, linger=options.in_step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--repository")
    parser.add_argument("--token-file", type=Path, help="token that every call carries")
    parser.add_argument("--drive", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--files", type=Path, required=True, help="a folder; its files are sent")
    parser.add_argument("--in-flight", type=int, default=1, help="files at once")
    parser.add_argument("--streams", type=int, help="of each file; default: the SDK's choice")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--in-step", action="store_true", help="as bench/load/uploads.py has it")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
