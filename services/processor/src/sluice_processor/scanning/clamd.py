"""Scanner that sends objects to the daemon of ClamAV (`INSTREAM` of clamd(8))."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from typing import Any, Final

from sluice_core.addresses import Address
from sluice_processor.images.model import ImageRefused, RefusalReason
from sluice_processor.scanning.port import scanner_unavailable

UNIX: Final = "unix:"
_CHUNK_BYTES: Final = 256 * 1024
_MAX_ANSWER_BYTES: Final = 4096
_ANSWER: Final = re.compile(r"stream: (?:(?P<clean>OK)|(?P<found>.+) FOUND)")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._()/-]")
_MAX_NAME_CHARACTERS: Final = 100


class ClamdScanner:
    """One connection for each object, so that any number is scanned at the same time.

    Args:
        address: `HOST:PORT`, or `unix:` and the path of a socket.
        seconds: time of one object.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self._address = address
        self._seconds = seconds

    async def scan(self, fd: int, size: int) -> str | None:
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._ask(fd, size)
        except TimeoutError:
            raise scanner_unavailable(f"clamd takes more than {self._seconds:g} s") from None
        except OSError as error:
            raise scanner_unavailable(f"clamd does not answer ({type(error).__name__})") from error
        return _verdict(answer)

    async def _ask(self, fd: int, size: int) -> str:
        with await self._connected() as connection:
            # A daemon that refuses the rest answers and closes: what it said can still be read.
            with contextlib.suppress(ConnectionError):
                await _send(connection, fd, size)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while b"\0" not in answer and len(answer) < _MAX_ANSWER_BYTES:
                    more = await _loop().sock_recv(connection, _MAX_ANSWER_BYTES)
                    if not more:
                        break
                    answer += more
        return answer.partition(b"\0")[0].decode("ascii", "replace").strip()

    async def _connected(self) -> socket.socket:
        """Return a plain connection: a stream would drop the answer at a failed write."""
        if self._address.startswith(UNIX):
            return await _connect(socket.AF_UNIX, self._address.removeprefix(UNIX))
        address = Address.parse(self._address)
        found = await _loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        for family, _, _, _, target in found[:-1]:
            with contextlib.suppress(OSError):
                return await _connect(family, target)
        return await _connect(found[-1][0], found[-1][4])


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def _connect(family: int, target: Any) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await _loop().sock_connect(connection, target)
    except BaseException:
        connection.close()
        raise
    return connection


async def _send(connection: socket.socket, fd: int, size: int) -> None:
    """Send the object in chunks of length and bytes; a length of 0 ends it."""
    loop = _loop()
    await loop.sock_sendall(connection, b"zINSTREAM\0")
    for offset in range(0, size, _CHUNK_BYTES):
        chunk = await asyncio.to_thread(os.pread, fd, min(_CHUNK_BYTES, size - offset), offset)
        await loop.sock_sendall(connection, len(chunk).to_bytes(4, "big") + chunk)
    await loop.sock_sendall(connection, bytes(4))


def _verdict(answer: str) -> str | None:
    match = _ANSWER.fullmatch(answer)
    if match is None:
        if "size limit exceeded" in answer:
            raise ImageRefused(
                RefusalReason.TOO_LARGE,
                "The virus scanner takes no object of this size; raise its StreamMaxLength.",
            )
        raise scanner_unavailable("clamd answered with an error, or not at all")
    if match["clean"]:
        return None
    return _UNSAFE.sub("_", match["found"])[:_MAX_NAME_CHARACTERS]
