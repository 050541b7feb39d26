"""Keeps an eye on Redis: how full it is, and whether it is still the one that it was (rule 28)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import structlog

from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.info import Info, read_info
from sluice_backends.redis.nonce import get_or_create_nonce
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import SluiceError

INTERVAL_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


class RedisMonitor:
    """What was seen at the last look; opened with `open_redis_monitor`."""

    def __init__(self, clients: RedisClients, options: RedisOptions, nonce: str) -> None:
        self._clients = clients
        self._high_fraction = options.memory_high_fraction
        self._nonce = nonce
        self._new_nonce: list[Callable[[str], None]] = []
        self._run_ids: dict[str, str] = {}
        self._memory_is_high = False
        self._answers = True

    @property
    def nonce(self) -> str:
        """Identity of what is in Redis; a new one when it was emptied or replaced."""
        return self._nonce

    @property
    def memory_is_high(self) -> bool:
        """Whether a server uses more than its share: no further chunk should be admitted, so that
        those which are on their way, and the ledger's own writes, still find room."""
        return self._memory_is_high

    def on_new_nonce(self, callback: Callable[[str], None]) -> None:
        """Have this called with the new nonce, from the monitor's task."""
        self._new_nonce.append(callback)

    async def look(self) -> None:
        """Look now. Raises as `RedisClients` does."""
        infos = await read_info(self._clients)
        self._note_memory(infos)
        self._note_servers(infos)
        nonce = await get_or_create_nonce(self._clients)
        if nonce != self._nonce:
            self._nonce = nonce
            self._replaced("emptied", nonce=nonce)
            for callback in self._new_nonce:
                callback(nonce)

    async def run(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                await self.look()
            except SluiceError as error:
                if self._answers:
                    _log.warning("redis.away", reason=error.reason)
                self._answers = False
            else:
                if not self._answers:
                    _log.info("redis.back")
                self._answers = True

    def _note_memory(self, infos: Mapping[str, Info]) -> None:
        metrics = self._clients.metrics
        high = False
        for address, info in infos.items():
            used, most = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
            metrics.used_bytes.labels(address).set(used)
            metrics.max_bytes.labels(address).set(most)
            high = high or 0 < most * self._high_fraction < used
        if high != self._memory_is_high:
            _log.warning("redis.memory_high" if high else "redis.memory_low_again")
        self._memory_is_high = high

    def _note_servers(self, infos: Mapping[str, Info]) -> None:
        run_ids = {address: info.get("run_id", "") for address, info in infos.items()}
        if self._run_ids and run_ids != self._run_ids:
            restarted = [a for a in run_ids if self._run_ids.get(a, run_ids[a]) != run_ids[a]]
            if restarted:
                self._replaced("restarted", servers=restarted)
            # A master that is new here took over from a replica's place, or the cluster grew.
            if run_ids.keys() != self._run_ids.keys():
                self._replaced("failed_over", servers=sorted(run_ids.keys() - self._run_ids.keys()))
        self._run_ids = run_ids

    def _replaced(self, what: str, **facts: object) -> None:
        self._clients.metrics.replaced.labels(what).inc()
        _log.warning(f"redis.{what}", **facts)


@asynccontextmanager
async def open_redis_monitor(
    clients: RedisClients, options: RedisOptions, interval_seconds: float = INTERVAL_SECONDS
) -> AsyncIterator[RedisMonitor]:
    """A monitor that looks from time to time, and has looked once."""
    monitor = RedisMonitor(clients, options, await get_or_create_nonce(clients))
    await monitor.look()
    looking = asyncio.create_task(monitor.run(interval_seconds), name="redis.monitor")
    try:
        yield monitor
    finally:
        looking.cancel()
        (ended,) = await asyncio.gather(looking, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended
