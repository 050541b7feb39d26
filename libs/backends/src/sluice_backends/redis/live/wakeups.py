"""Wake-ups by pub/sub: one connection per process, a channel for each name that is listened to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.subscription import SILENCE_SECONDS, Subscription
from sluice_core.errors import SluiceError

RESUBSCRIBE_SECONDS: Final = 1.0
_BATCH_CHANNELS: Final = 500

_log = structlog.get_logger(__name__)


class Wakeups:
    """Calls back for each message on a subscribed channel, and when messages may have been missed.

    A message carries no state: who is woken reads it. So a lost connection only costs time.

    Args:
        woken: called with a channel at each message on it, and when the server has confirmed its
            subscription: a change right before that had no message.
        lost: called when the connection is lost; until it is back there are no messages.
    """

    def __init__(
        self,
        clients: RedisClients,
        woken: Callable[[str], None],
        lost: Callable[[], None],
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._clients = clients
        self._woken = woken
        self._lost = lost
        self._silence_seconds = silence_seconds
        self._channels: dict[str, None] = {}
        self._subscription: Subscription | None = None

    @property
    def is_connected(self) -> bool:
        return self._subscription is not None

    def subscribe(self, channel: str) -> None:
        self._channels[channel] = None
        self._request("SUBSCRIBE", channel)

    def unsubscribe(self, channel: str) -> None:
        self._channels.pop(channel, None)
        self._request("UNSUBSCRIBE", channel)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen during the context."""
        listening = asyncio.create_task(self._listen_until_cancelled())
        try:
            yield
        finally:
            listening.cancel()
            (ended,) = await asyncio.gather(listening, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended

    async def _listen_until_cancelled(self) -> None:
        while True:
            try:
                async with self._clients.subscription(self._on_message) as subscription:
                    self._subscription = subscription
                    channels = list(self._channels)
                    for at in range(0, len(channels), _BATCH_CHANNELS):
                        subscription.request("SUBSCRIBE", *channels[at : at + _BATCH_CHANNELS])
                    await subscription.listen(self._silence_seconds)
            except (RedisError, OSError, SluiceError) as error:
                _log.warning("live.subscription_lost", error=str(error))
            finally:
                self._subscription = None
            self._lost()
            await asyncio.sleep(RESUBSCRIBE_SECONDS)

    def _request(self, command: str, channel: str) -> None:
        if self._subscription is not None and self._subscription.is_open:
            self._subscription.request(command, channel)
        # Otherwise the next connection subscribes to all channels.

    def _on_message(self, kind: bytes, channel: str, data: Any) -> None:
        if kind != b"unsubscribe" and channel in self._channels:
            self._woken(channel)
