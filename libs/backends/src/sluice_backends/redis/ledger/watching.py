"""Hearing of changes that other processes made (rule 27): one subscription per process.

Announcements are wake-ups only. Whoever waits looks at the ledger again after each that can matter
to him, and now and then without one, so a lost announcement costs time and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.subscription import SILENCE_SECONDS, Subscription
from sluice_core.concurrency.notifier import Notifier
from sluice_core.errors import SluiceError
from sluice_core.uploads.states import TERMINAL

_CHANGED: Final = "sluice:changed:"
_ROOM: Final = "sluice:room"

_SUBSCRIBE_AGAIN_SECONDS = 1.0
_IDLE_CHANNELS = 256
"""So many channels nobody listens to any more are kept: who waits for room comes back soon."""

_AT_ONCE = 500
_ENDED: Final = frozenset(status.value for status in TERMINAL)

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Heard:
    """What is known of an upload since its changes are heard. Nothing, at first: what came right
    before the subscription was not heard."""

    sequence: int | None = None
    ended: bool = False

    def note(self, sequence: int, *, ended: bool) -> None:
        """The upload is this far, or was: by an announcement, or by a step that began after the
        changes could be heard."""
        self.ended = self.ended or ended
        self.sequence = sequence if self.sequence is None else max(sequence, self.sequence)

    def is_up_to_date(self, seen: int, *, only_end: bool) -> bool:
        """Whether a look would show nothing to one who has seen that sequence."""
        if self.sequence is None or self.ended:
            return False
        return only_end or self.sequence <= seen


class Announcements:
    """Wakes those in this process who wait for an upload, or for room.

    The channels of those uploads are subscribed to, not all of them: a process hears nothing of
    the thousands of chunks that its clients did not ask about.
    """

    def __init__(self, clients: RedisClients, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._clients = clients
        self._silence_seconds = silence_seconds
        self._changes = Notifier()
        self._room = Notifier()
        self._wanted_changed = asyncio.Event()
        self._expected: set[str] = set()
        self._heard: dict[str, Heard] = {}
        """By the uploads whose channel the server has confirmed."""

    def heard_of(self, upload_id: str) -> Heard | None:
        """What is known of the upload, if no change of it goes unheard from now on."""
        return self._heard.get(upload_id)

    def expect(self, upload_id: str) -> None:
        """Somebody is about to wait for the upload: hear of its changes already."""
        if upload_id not in self._heard and len(self._expected) < _AT_ONCE:
            self._expected.add(upload_id)
            self._wanted_changed.set()

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
                async with self._clients.subscription(self._take) as subscription:
                    await self._listen(subscription)
            except* (RedisError, OSError, SluiceError) as errors:
                _log.warning("ledger.announcements_lost", error=str(errors.exceptions[0]))
            # What was announced meanwhile was not heard.
            self._heard.clear()
            self._changes.notify_all()
            self._room.notify_all()
            await asyncio.sleep(_SUBSCRIBE_AGAIN_SECONDS)

    async def _listen(self, subscription: Subscription) -> None:
        subscription.tell("SUBSCRIBE", _ROOM)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_wishes(subscription))
            await subscription.listen(self._silence_seconds)

    async def _follow_wishes(self, subscription: Subscription) -> None:
        """Subscribe to the uploads that are waited for, and some time later no more."""
        subscribed: dict[str, None] = {}  # in the order of their subscription
        while True:
            self._wanted_changed.clear()
            wanted = self._changes.waited_for() | self._room.waited_for() | self._expected
            self._expected.clear()
            fresh = wanted - subscribed.keys()
            _in_batches(subscription, "SUBSCRIBE", fresh)
            subscribed.update(dict.fromkeys(fresh))
            if len(subscribed) - len(wanted) > _IDLE_CHANNELS:
                # The newest stay: their waiters may be about to come.
                idle = [upload_id for upload_id in subscribed if upload_id not in wanted]
                idle = idle[: -_IDLE_CHANNELS // 2]
                _in_batches(subscription, "UNSUBSCRIBE", idle)
                for upload_id in idle:
                    del subscribed[upload_id]
            await self._wanted_changed.wait()

    def _take(self, kind: bytes, channel: str, data: Any) -> None:
        is_news = kind == b"message"
        if channel == _ROOM:
            if is_news:
                self._room.notify_all()
            return
        upload_id = channel.removeprefix(_CHANGED)
        if is_news:
            self._learn(upload_id, data)
            self._room.notify([upload_id])
        elif kind == b"subscribe":
            self._heard[upload_id] = Heard()
        else:
            self._heard.pop(upload_id, None)
        # A subscription that has just begun may have missed what came right before it. Whoever
        # waits for room asks again within a second anyway.
        self._changes.notify([upload_id])

    def _learn(self, upload_id: str, news: bytes) -> None:
        """News are a sequence number and mostly a status; without one the upload may have ended."""
        heard = self._heard.get(upload_id)
        if heard is not None:
            sequence, _, status = news.decode().partition(" ")
            heard.note(int(sequence), ended=not status or status in _ENDED)


def _in_batches(subscription: Subscription, command: str, upload_ids: Iterable[str]) -> None:
    channels = [_CHANGED + upload_id for upload_id in upload_ids]
    for at in range(0, len(channels), _AT_ONCE):
        subscription.tell(command, *channels[at : at + _AT_ONCE])
