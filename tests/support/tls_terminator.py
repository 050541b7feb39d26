"""A TLS terminator in front of a plaintext server, as many managed servers have."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from support.certificates import TlsPaths

_READ_BYTES = 256 * 1024


@contextmanager
def terminating_tls(paths: TlsPaths, plain_port: int, port: int = 0) -> Iterator[int]:
    """Terminate TLS on a port of 127.0.0.1 and yield it; 0 picks a free one.

    It runs in its own thread, because the caller may block its loop.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(paths.cert, paths.key)
    listening: Future[tuple[int, Callable[[], object]]] = Future()

    connections: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_plain, to_plain = await asyncio.open_connection("127.0.0.1", plain_port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, to_plain))
                both.create_task(_copy(from_plain, writer))
        except BaseException:
            for end in (writer, to_plain):
                end.transport.abort()
            raise

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(forward(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(connected, "127.0.0.1", port, ssl=context)
        actual = server.sockets[0].getsockname()[1]
        listening.set_result((actual, partial(loop.call_soon_threadsafe, stop.set)))
        await stop.wait()
        server.close()
        # Clients may keep their connections for later requests.
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0)  # lets the loop close what was aborted

    with ThreadPoolExecutor(max_workers=1) as thread:
        serving = thread.submit(asyncio.run, serve())
        either: list[Future[Any]] = [listening, serving]
        wait(either, 10, FIRST_COMPLETED)
        if serving.done():
            serving.result()  # raises the error of listening
        actual, end = listening.result(0)
        try:
            yield actual
        finally:
            end()
            serving.result()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the reader ends; then close the writer."""
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
