"""A round-robin balancer of TCP connections, as the gateway's replicas have one before them.

python -m bench.balancer --listen 127.0.0.1:9000 --ready-file F HOST:PORT HOST:PORT
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import uvloop

_PIECE_BYTES: Final = 256 * 1024


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, and pass the end on."""
    while piece := await reader.read(_PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def serve(listen: str, replicas: Sequence[str], ready: Path) -> None:
    """Serve until SIGTERM; each connection goes to the next replica."""
    turns = itertools.cycle(replicas)
    connections: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = next(turns).rpartition(":")
        with closing(writer), suppress(OSError):
            back_reader, back_writer = await asyncio.open_connection(host, int(port))
            with closing(back_writer):
                await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(pass_on(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    host, _, port = listen.rpartition(":")
    server = await asyncio.start_server(accept, host, int(port))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await asyncio.to_thread(ready.write_text, f"{listen}\n", encoding="utf-8")
    await stop.wait()
    server.close()
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("replicas", nargs="+", metavar="HOST:PORT")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--ready-file", type=Path, required=True)
    options = parser.parse_args()
    uvloop.run(serve(options.listen, options.replicas, options.ready_file))


if __name__ == "__main__":
    main()
