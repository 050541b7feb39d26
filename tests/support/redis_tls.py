"""A Redis server behind TLS, with a certificate of the tests' authority."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from support.certificates import write_certificates
from support.redis_server import RedisServer, free_port

_READ_BYTES = 256 * 1024
_WITHOUT_TLS = "Failed finding TLS support"
"""Logged by a server without TLS support that is given a TLS port."""


@contextmanager
def tls_redis(folder: Path) -> Iterator[str]:
    """Run a server and yield its URL without a database number; write `ca.pem` to the folder.

    A Valkey built without TLS, such as that of the wheel, gets a TLS terminator in front, as many
    managed servers have.
    """
    write_certificates(folder)
    port = free_port()
    arguments = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    for name, file in (("cert-file", "cert"), ("key-file", "key"), ("ca-cert-file", "ca")):
        arguments += [f"--tls-{name}", str(folder / f"{file}.pem")]
    url = f"rediss://127.0.0.1:{port}"
    server = RedisServer(*arguments)
    try:
        server.start()
    except RuntimeError as error:
        if _WITHOUT_TLS not in str(error):
            raise
        with RedisServer() as plain, _terminator(folder, port, plain.port):
            yield url
    else:
        yield url
    finally:
        server.__exit__(None, None, None)


@contextmanager
def _terminator(folder: Path, port: int, plain_port: int) -> Iterator[None]:
    """Terminate TLS on `port` in its own thread, because the caller may block its loop."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    listening: Future[Callable[[], object]] = Future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_plain, to_plain = await asyncio.open_connection("127.0.0.1", plain_port)
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, to_plain))
            both.create_task(_copy(from_plain, writer))

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(connected, "127.0.0.1", port, ssl=context)
        listening.set_result(partial(loop.call_soon_threadsafe, stop.set))
        await stop.wait()
        server.close()

    with ThreadPoolExecutor(max_workers=1) as thread:
        serving = thread.submit(asyncio.run, serve())
        either: list[Future[Any]] = [listening, serving]
        wait(either, 10, FIRST_COMPLETED)
        if serving.done():
            serving.result()  # raises the error of listening
        end = listening.result(0)
        try:
            yield
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
