"""A STOMP client that runs in Node: @stomp/stompjs, also on sockjs-client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support.foreign_clients import Command, node_client

LINE_SECONDS = 60.0
"""For the next line; a server may start meanwhile."""


class StompJs:
    """A running client, and the lines that it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        self._lines, self._input = process.stdout, process.stdin
        self._unread: list[dict[str, Any]] = []

    async def expect(self, event: str, **members: object) -> dict[str, Any]:
        """Return the first line of this kind with these members that was not returned before."""
        wanted = {"event": event, **members}.items()
        for line in self._unread:
            if wanted <= line.items():
                self._unread.remove(line)
                return line
        while not wanted <= (line := await self.next_line()).items():
            self._unread.append(line)
        return line

    async def next_line(self) -> dict[str, Any]:
        """Return the next line that was not read yet."""
        async with asyncio.timeout(LINE_SECONDS):
            line = await self._lines.readline()
        assert line, "the client has ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def forget(self) -> list[dict[str, Any]]:
        """Return the lines that were read and not returned; they are not returned again."""
        unread, self._unread = self._unread, []
        return unread

    async def unsubscribe(self, subscription: str) -> None:
        """End a subscription, such as `a:b0`, and wait until the server has confirmed it."""
        self._input.write(f"{subscription}\n".encode())
        await self._input.drain()
        await self.expect("unsubscribed", subscription=subscription)

    def finish(self) -> None:
        """Let the client disconnect."""
        self._input.close()


@asynccontextmanager
async def stompjs(
    destinations: str, token: str, *urls: str, sockjs: bool = False
) -> AsyncIterator[StompJs]:
    """Run a client that connects to each URL (`ws://…`) in turn, and subscribes.

    Args:
        destinations: with commas between them. The same one may occur several times.
    """
    command = await asyncio.to_thread(node_client, "stomp")
    if sockjs:
        urls = tuple(url.replace("ws://", "http://") for url in urls)
    async with running_client(command, destinations, token, *urls) as process:
        yield StompJs(process)


@asynccontextmanager
async def running_client(
    command: Command, *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a client with pipes to its input and output; kill it at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *command.arguments,
        *arguments,
        env=command.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
