"""Announcements of changes by other processes (rule 27): one subscription per process."""

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

_RESUBSCRIBE_SECONDS = 1.0
_IDLE_CHANNELS = 256
"""Unused channels that stay subscribed: a client that waits for room comes back soon."""

_BATCH_CHANNELS = 500
_ENDED: Final = frozenset(status.value for status in TERMINAL)

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class KnownState:
    """State of a subscribed upload as far as it is known.

    Unknown at first, since announcements before the subscription were missed.
    """

    sequence: int | None = None
    ended: bool = False

    def update(self, sequence: int, *, ended: bool) -> None:
        """Record a sequence from an announcement or a step that started after the subscription."""
        self.ended = self.ended or ended
        self.sequence = sequence if self.sequence is None else max(sequence, self.sequence)

    def is_up_to_date(self, seen: int, *, only_end: bool) -> bool:
        """Return True if a read would return nothing newer than the sequence `seen`."""
        if self.sequence is None or self.ended:
            return False
        return only_end or self.sequence <= seen


class Announcements:
    """Notifies waiting callers of this process about changes of an upload, or about room.

    Announcements are wake-ups only. A waiting caller rereads the ledger after each relevant one,
    and polls in between, so a lost announcement only costs time. Only channels of uploads with
    waiting callers are subscribed to, not those of all uploads of the deployment.
    """

    def __init__(self, clients: RedisClients, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._clients = clients
        self._silence_seconds = silence_seconds
        self._changes = Notifier()
        self._room = Notifier()
        self._subscriptions_changed = asyncio.Event()
        self._early: set[str] = set()
        self._states: dict[str, KnownState] = {}
        """By upload, once the server has confirmed the subscription."""

    def known_state(self, upload_id: str) -> KnownState | None:
        """Return the known state of a subscribed upload; None if changes may be missed."""
        return self._states.get(upload_id)

    def subscribe_early(self, upload_id: str) -> None:
        """Subscribe to an upload in advance of its first waiting caller."""
        if upload_id not in self._states and len(self._early) < _BATCH_CHANNELS:
            self._early.add(upload_id)
            self._subscriptions_changed.set()

    @contextmanager
    def changes(self, upload_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set at each change, and once when the subscription is active."""
        with self._changes.listen(upload_id) as event:
            self._subscriptions_changed.set()
            yield event

    @contextmanager
    def room(self, upload_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set when room is free again, or when the upload has changed."""
        with self._room.listen(upload_id) as event:
            self._subscriptions_changed.set()
            yield event

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen for announcements during the context."""
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
                    await self._listen(subscription)
            except* (RedisError, OSError, SluiceError) as errors:
                _log.warning("ledger.subscription_lost", error=str(errors.exceptions[0]))
            # Announcements were missed meanwhile.
            self._states.clear()
            self._changes.notify_all()
            self._room.notify_all()
            await asyncio.sleep(_RESUBSCRIBE_SECONDS)

    async def _listen(self, subscription: Subscription) -> None:
        subscription.request("SUBSCRIBE", _ROOM)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._update_subscriptions(subscription))
            await subscription.listen(self._silence_seconds)

    async def _update_subscriptions(self, subscription: Subscription) -> None:
        """Subscribe to uploads with waiting callers; unsubscribe from idle ones later."""
        subscribed: dict[str, None] = {}  # in the order of their subscription
        while True:
            self._subscriptions_changed.clear()
            waited_for = self._changes.waited_for() | self._room.waited_for() | self._early
            self._early.clear()
            fresh = waited_for - subscribed.keys()
            _in_batches(subscription, "SUBSCRIBE", fresh)
            subscribed.update(dict.fromkeys(fresh))
            if len(subscribed) - len(waited_for) > _IDLE_CHANNELS:
                # Keep the newest: their callers may be about to wait.
                idle = [upload_id for upload_id in subscribed if upload_id not in waited_for]
                idle = idle[: -_IDLE_CHANNELS // 2]
                _in_batches(subscription, "UNSUBSCRIBE", idle)
                for upload_id in idle:
                    del subscribed[upload_id]
            await self._subscriptions_changed.wait()

    def _on_message(self, kind: bytes, channel: str, data: Any) -> None:
        is_announcement = kind == b"message"
        if channel == _ROOM:
            if is_announcement:
                self._room.notify_all()
            return
        upload_id = channel.removeprefix(_CHANGED)
        if is_announcement:
            self._record(upload_id, data)
            self._room.notify([upload_id])
        elif kind == b"subscribe":
            self._states[upload_id] = KnownState()
        else:
            self._states.pop(upload_id, None)
        # A new subscription may have missed the change right before it. Callers that wait for room
        # check again within a second anyway.
        self._changes.notify([upload_id])

    def _record(self, upload_id: str, announcement: bytes) -> None:
        """Record a sequence and status; without a status the upload may have ended."""
        state = self._states.get(upload_id)
        if state is not None:
            sequence, _, status = announcement.decode().partition(" ")
            state.update(int(sequence), ended=not status or status in _ENDED)


def _in_batches(subscription: Subscription, command: str, upload_ids: Iterable[str]) -> None:
    channels = [_CHANGED + upload_id for upload_id in upload_ids]
    for at in range(0, len(channels), _BATCH_CHANNELS):
        subscription.request(command, *channels[at : at + _BATCH_CHANNELS])
