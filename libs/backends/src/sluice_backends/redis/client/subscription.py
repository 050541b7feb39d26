"""Connection for channel subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from sluice_backends.redis.client.link import Link
from sluice_backends.redis.client.resp import Argument

SILENCE_SECONDS: Final = 30.0

OnMessage = Callable[[bytes, str, Any], None]
"""Called with the kind ("message", "subscribe", "unsubscribe"), the channel and the data."""


class Subscription(Link):
    """Receiver of published messages. A message costs a call, not a task."""

    def __init__(self) -> None:
        super().__init__()
        self.on_message: OnMessage = _ignored
        self._has_received = False
        self._failure: Exception | None = None

    def request(self, *command: Argument) -> None:
        """Send SUBSCRIBE or UNSUBSCRIBE; `on_message` receives the reply."""
        self._write([command])

    async def listen(self, silence_seconds: float = SILENCE_SECONDS) -> None:
        """Wait until the connection ends; always raise the cause.

        A connection that is cut without notice would stay silent for ever. After
        `silence_seconds` without input send a PING; after as much again without a reply fail.
        """
        pinged = False
        while True:
            self._has_received = False
            try:
                async with asyncio.timeout(silence_seconds):
                    await self._ended.wait()
            except TimeoutError:
                pass
            if self._failure is not None:
                raise self._failure
            if self._has_received:
                pinged = False
            elif pinged:
                raise RedisConnectionError("The subscription's connection does not answer.")
            else:
                self.request("PING")
                pinged = True

    def _on_reply(self, reply: Any) -> None:
        self._has_received = True
        if isinstance(reply, Exception):
            self._fail(reply)
            self.abort()
        elif isinstance(reply, list) and len(reply) == 3:  # else a PONG
            kind, channel, data = reply
            self.on_message(kind, channel.decode(), data)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error


def _ignored(kind: bytes, channel: str, data: Any) -> None:
    """Ignore a message; nothing is subscribed to yet."""
