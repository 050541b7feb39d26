"""Live updates shared by all processes of a deployment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.scripts import Script, load_script
from sluice_backends.redis.client.server import Argument
from sluice_backends.redis.live.packing import tick_arguments, unpack_entry, update_arguments
from sluice_backends.redis.live.wakeups import RESUBSCRIBE_SECONDS, Wakeups
from sluice_core.concurrency.notifier import Notifier
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import SluiceError
from sluice_core.live.log import DEFAULT_CAPACITY, LiveLog
from sluice_core.live.updates import Audience, ProgressTick, Update
from sluice_core.ports.live_updates import Listening

RETENTION_SECONDS: Final = 600.0
"""How long a log outlives its last change and its last listener."""

POLL_SECONDS: Final = 30.0
"""Time between reads without a wake-up; they also keep the log alive."""

_MAX_CAPACITY: Final = 5_000  # arguments of one call in Lua are limited
_UNKNOWN: Final = -1

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Copy:
    """This process's copy of a user's log, as long as somebody listens to it."""

    audience: Audience
    log: LiveLog
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_read: bool = False
    listeners: int = 0
    follower: asyncio.Task[None] | None = None


class RedisLiveUpdates:
    """`LiveUpdates` on Redis.

    The log of each user is in Redis (live/lua/log.lua). A process keeps a copy of the logs that
    its sessions listen to: however many sessions a user has, a change is read once per process, and
    sessions read the copy. Pub/sub wakes the copies; what they read is the log, so a lost message
    costs time and no update.

    Listen only within `running`.
    """

    def __init__(
        self,
        clients: RedisClients,
        capacity: int = DEFAULT_CAPACITY,
        retention_seconds: float = RETENTION_SECONDS,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        if not 1 <= capacity <= _MAX_CAPACITY:
            raise ValueError(f"the capacity is 1 to {_MAX_CAPACITY}")
        self._clients = clients
        self._capacity = capacity
        self._retention_ms = int(retention_seconds * 1000)
        self._poll_seconds = poll_seconds
        self._publish = load_script(__package__, "live_publish", "log")
        self._progress = load_script(__package__, "live_progress", "log")
        self._read = load_script(__package__, "live_read", "log")
        self._copies: dict[str, _Copy] = {}
        """By channel."""
        self._listeners = Notifier()
        self._wakeups = Wakeups(clients, self._on_wakeup, self._on_connection_lost)
        self._tasks: asyncio.TaskGroup | None = None
        self._is_failing = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Receive wake-ups during the context."""
        async with self._wakeups.listening(), asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks = None
                for copy in self._copies.values():
                    if copy.follower is not None:
                        copy.follower.cancel()

    async def publish(self, audience: Audience, updates: Sequence[Update]) -> None:
        await self._call(self._publish, audience, update_arguments(updates))

    async def post_progress(self, audience: Audience, ticks: Sequence[ProgressTick]) -> None:
        await self._call(self._progress, audience, tick_arguments(ticks))

    async def latest(self, audience: Audience, keys_: Sequence[str]) -> list[Update | None]:
        if not keys_:
            return []
        entries, _, _ = keys.live_log(audience)
        packed = await self._clients.execute(
            entries, "HMGET", entries, *keys_, operation="live_latest"
        )
        return [None if each is None else unpack_entry(each).update for each in packed]

    @asynccontextmanager
    async def listen(self, audience: Audience) -> AsyncIterator[Listening]:
        channel = keys.live_channel(audience)
        copy = self._enter(channel, audience)
        try:
            if not copy.is_read:
                await self._refresh(copy)
            with self._listeners.listen(channel) as changed:
                yield Listening(copy.log, changed)
        finally:
            self._leave(channel, copy)

    def _enter(self, channel: str, audience: Audience) -> _Copy:
        copy = self._copies.get(channel)
        if copy is None:
            if self._tasks is None:
                raise RuntimeError("listen only within running()")
            copy = _Copy(audience, LiveLog(0, self._capacity))
            self._copies[channel] = copy
            self._wakeups.subscribe(channel)
            copy.follower = self._tasks.create_task(self._follow(copy))
        copy.listeners += 1
        return copy

    def _leave(self, channel: str, copy: _Copy) -> None:
        copy.listeners -= 1
        if copy.listeners == 0:
            del self._copies[channel]
            self._wakeups.unsubscribe(channel)
            if copy.follower is not None:
                copy.follower.cancel()

    async def _follow(self, copy: _Copy) -> None:
        """Keep a copy up to date."""
        while True:
            connected = self._wakeups.is_connected
            await wait_at_most(copy.wake, self._poll_seconds if connected else RESUBSCRIBE_SECONDS)
            copy.wake.clear()
            try:
                await self._refresh(copy)
            except SluiceError as error:
                if not self._is_failing:  # once, not for each of thousands of copies
                    _log.warning("live.read_failed", error=str(error))
                self._is_failing = True
                await asyncio.sleep(RESUBSCRIBE_SECONDS)
                copy.wake.set()
            else:
                self._is_failing = False

    async def _refresh(self, copy: _Copy) -> None:
        async with copy.reading:
            log = copy.log
            cursor = log.last if copy.is_read else _UNKNOWN
            last, floor, follows, packed = await self._call(self._read, copy.audience, [cursor])
            entries = [unpack_entry(each) for each in packed]
            if follows:
                for entry in entries:
                    log.append(entry)
            else:
                log.restart(entries, int(floor), int(last))
            if entries or not follows:
                self._listeners.notify([keys.live_channel(copy.audience)])
            copy.is_read = True

    async def _call(self, script: Script, audience: Audience, arguments: Sequence[Argument]) -> Any:
        common = (self._capacity, self._retention_ms, keys.live_channel(audience))
        return await self._clients.call(script, keys.live_log(audience), (*common, *arguments))

    def _on_wakeup(self, channel: str) -> None:
        copy = self._copies.get(channel)
        if copy is not None:
            copy.wake.set()

    def _on_connection_lost(self) -> None:
        for copy in self._copies.values():
            copy.wake.set()
