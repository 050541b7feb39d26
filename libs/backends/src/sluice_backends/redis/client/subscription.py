"""A connection on which channels are subscribed to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from sluice_backends.redis.client.link import Link
from sluice_backends.redis.client.resp import Argument

SILENCE_SECONDS: Final = 30.0

OnNews = Callable[[bytes, str, Any], None]
"""Called with the kind ("message", "subscribe", "unsubscribe"), the channel, and what came."""


class Subscription(Link):
    """Hears what is published. A message costs a call and no task: an upload makes several."""

    def __init__(self) -> None:
        super().__init__()
        self.on_news: OnNews = _ignored
        self._heard_anything = False
        self._failure: Exception | None = None

    def tell(self, *command: Argument) -> None:
        """Send SUBSCRIBE or UNSUBSCRIBE; the answer is news like any other."""
        self._write([command])

    async def listen(self, silence_seconds: float = SILENCE_SECONDS) -> None:
        """Ends only by raising why nothing comes any more.

        A connection that was cut without a word would stay silent for ever: it is asked after so
        much silence, and given up after as much again.
        """
        asked = False
        while True:
            self._heard_anything = False
            try:
                async with asyncio.timeout(silence_seconds):
                    await self._ended.wait()
            except TimeoutError:
                pass
            if self._failure is not None:
                raise self._failure
            if self._heard_anything:
                asked = False
            elif asked:
                raise RedisConnectionError("The subscription's connection does not answer.")
            else:
                self.tell("PING")
                asked = True

    def _replied(self, reply: Any) -> None:
        self._heard_anything = True
        if isinstance(reply, Exception):
            self._fail(reply)
            self.abort()
        elif isinstance(reply, list) and len(reply) == 3:  # else it is a pong
            kind, channel, data = reply
            self.on_news(kind, channel.decode(), data)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error


def _ignored(kind: bytes, channel: str, data: Any) -> None:
    """Nothing was subscribed to yet."""
