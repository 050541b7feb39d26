"""Hearing of changes that other processes made (rule 27): one subscription per process.

Announcements are wake-ups only. Whoever waits looks at the ledger again after each, and now and
then without one, so a lost announcement costs time and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from sluice_common.coordination.redis.connection import RedisClients
from sluice_common.coordination.signals import Bell
from sluice_common.errors import SluiceError

_CHANGED: Final = "sluice:changed:"
_ROOM: Final = "sluice:room"

_SUBSCRIBE_AGAIN_SECONDS = 1.0
_SILENCE_SECONDS = 30.0
_IDLE_CHANNELS = 256
"""So many channels nobody listens to any more are kept: who waits for room comes back soon."""

_AT_ONCE = 500

_log = structlog.get_logger(__name__)


class Announcements:
    """Wakes those in this process who wait for an upload, or for room.

    The channels of those uploads are subscribed to, not all of them: a process hears nothing of
    the thousands of chunks that its clients did not ask about.
    """

    def __init__(self, clients: RedisClients, silence_seconds: float = _SILENCE_SECONDS) -> None:
        self._clients = clients
        self._silence_seconds = silence_seconds
        self._changes = Bell()
        self._room = Bell()
        self._wanted_changed = asyncio.Event()
        self._subscribed: set[str] = set()
        """Uploads whose channel the server has confirmed."""

    def hears(self, upload_id: str) -> bool:
        """Whether no change of the upload goes unheard from now on."""
        return upload_id in self._subscribed

    @contextmanager
    def changes(self, upload_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the upload has changed, and once when that can be heard."""
        with self._changes.listen(upload_id) as event:
            self._wanted_changed.set()
            yield event

    @contextmanager
    def room(self, upload_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when there is room again, or when the upload has moved on."""
        with self._room.listen(upload_id) as event:
            self._wanted_changed.set()
            yield event

    @asynccontextmanager
    async def heard(self) -> AsyncIterator[None]:
        """Listen as long as the context lasts."""
        listening = asyncio.create_task(self._listen_for_ever())
        try:
            yield
        finally:
            listening.cancel()
            (ended,) = await asyncio.gather(listening, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                client = await self._clients.subscriber()
                try:
                    async with client.pubsub() as subscription:
                        await self._listen(subscription)
                finally:
                    await client.aclose()
            except* (RedisError, OSError, SluiceError) as errors:
                _log.warning("ledger.announcements_lost", error=str(errors.exceptions[0]))
            # What was announced meanwhile was not heard.
            self._subscribed.clear()
            self._changes.ring_all()
            self._room.ring_all()
            await asyncio.sleep(_SUBSCRIBE_AGAIN_SECONDS)

    async def _listen(self, subscription: PubSub) -> None:
        await subscription.subscribe(_ROOM)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_wishes(subscription))
            asked = False
            while True:
                message = await subscription.get_message(timeout=self._silence_seconds)
                if message is not None:
                    asked = False
                    self._heard(message)
                elif asked:
                    raise ConnectionError("the subscription's connection does not answer")
                else:
                    # A connection that was cut without a word would stay silent for ever.
                    await subscription.ping()
                    asked = True

    async def _follow_wishes(self, subscription: PubSub) -> None:
        """Subscribe to the uploads that are waited for, and some time later no more."""
        subscribed: set[str] = set()
        while True:
            self._wanted_changed.clear()
            wanted = self._changes.waited_for() | self._room.waited_for()
            await _in_batches(subscription.subscribe, wanted - subscribed)
            subscribed |= wanted
            idle = subscribed - wanted
            if len(idle) > _IDLE_CHANNELS:
                await _in_batches(subscription.unsubscribe, idle)
                subscribed -= idle
            await self._wanted_changed.wait()

    def _heard(self, message: dict[str, Any]) -> None:
        if message["type"] == "pong":
            return
        channel, is_news = message["channel"].decode(), message["type"] == "message"
        if channel == _ROOM:
            if is_news:
                self._room.ring_all()
            return
        upload_ids = [channel.removeprefix(_CHANGED)]
        if is_news:
            self._room.ring(upload_ids)
        elif message["type"] == "subscribe":
            self._subscribed.update(upload_ids)
        else:
            self._subscribed.difference_update(upload_ids)
        # A subscription that has just begun may have missed what came right before it. Whoever
        # waits for room asks again within a second anyway.
        self._changes.ring(upload_ids)


async def _in_batches(send: Any, upload_ids: set[str] | frozenset[str]) -> None:
    channels = [_CHANGED + upload_id for upload_id in upload_ids]
    for at in range(0, len(channels), _AT_ONCE):
        await send(*channels[at : at + _AT_ONCE])
