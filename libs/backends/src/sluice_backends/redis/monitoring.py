"""Monitor of Redis: memory use, restarts and identity (rule 28)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import structlog

from sluice_backends.redis.checks import durability_problems, fsync_problems
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.info import Info, read_info
from sluice_backends.redis.nonce import get_or_create_nonce
from sluice_backends.redis.options import RedisOptions
from sluice_core.combinations import Durability
from sluice_core.errors import SluiceError

INTERVAL_SECONDS: Final = 2.0
CONFIG_INTERVAL_SECONDS: Final = 600.0
"""Until a server without CONFIG is asked again: managed services have none, and another server may
stand at the same address later."""

_log = structlog.get_logger(__name__)


class RedisMonitor:
    """State of Redis at the latest check; opened with `open_redis_monitor`."""

    def __init__(
        self,
        clients: RedisClients,
        options: RedisOptions,
        nonce: str,
        durability: Durability = Durability.MEMORY,
    ) -> None:
        self._clients = clients
        self._options = options
        self._durability = durability
        self._problems: Mapping[str, list[str]] = {}
        self._fsync_problems: Mapping[str, list[str]] = {}
        """What CONFIG showed when it last answered."""
        self._ask_config_at = 0.0 if durability is Durability.FSYNC else math.inf
        self._high_fraction = options.memory_high_fraction
        self._nonce = nonce
        self._new_nonce: list[Callable[[str], None]] = []
        self._run_ids: dict[str, str] = {}
        self._memory_is_high = False
        self._is_available = True

    @property
    def nonce(self) -> str:
        """Identity of the data in Redis; it changes when Redis is emptied or replaced."""
        return self._nonce

    @property
    def memory_is_high(self) -> bool:
        """Whether a server exceeds `memory_high_fraction`.

        Then no further chunk should be admitted, so that admitted chunks and the ledger's own
        writes still find room.
        """
        return self._memory_is_high

    def on_new_nonce(self, callback: Callable[[str], None]) -> None:
        """Register a callback for a new nonce; it runs in the monitor's task."""
        self._new_nonce.append(callback)

    async def check(self) -> None:
        """Check memory, servers and nonce. Raise as `RedisClients` does."""
        infos = await read_info(self._clients)
        self._update_memory(infos)
        self._update_servers(infos)
        await self._update_durability(infos)
        nonce = await get_or_create_nonce(self._clients)
        if nonce != self._nonce:
            self._nonce = nonce
            self._count_replacement("emptied", nonce=nonce)
            for callback in self._new_nonce:
                callback(nonce)

    async def run(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        """Check at intervals until cancelled."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                await self.check()
            except SluiceError as error:
                if self._is_available:
                    _log.warning("redis.connection_lost", reason=error.reason)
                self._is_available = False
            else:
                if not self._is_available:
                    _log.info("redis.connection_restored")
                self._is_available = True

    def _update_memory(self, infos: Mapping[str, Info]) -> None:
        metrics = self._clients.metrics
        high = False
        for address, info in infos.items():
            used, limit = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
            metrics.used_bytes.labels(address).set(used)
            metrics.max_bytes.labels(address).set(limit)
            high = high or 0 < limit * self._high_fraction < used
        if high != self._memory_is_high:
            _log.warning("redis.memory_exceeded" if high else "redis.memory_recovered")
        self._memory_is_high = high

    async def _update_durability(self, infos: Mapping[str, Info]) -> None:
        """Report servers that were changed after the start, or have lost their replicas."""
        problems = durability_problems(infos, self._durability, self._options)
        await self._update_fsync_problems()
        for address, missing in self._fsync_problems.items():
            # A server that no longer answers INFO is none of the masters any more.
            if address in problems:
                problems[address].extend(missing)
        met = self._clients.metrics.durability_met
        for address in self._problems.keys() - problems.keys():
            met.remove(address)
        for address, missing in problems.items():
            met.labels(address).set(0 if missing else 1)
            if missing and missing != self._problems.get(address):
                _log.error("redis.durability_lost", server=address, problems=missing)
        self._problems = problems

    async def _update_fsync_problems(self) -> None:
        """Read when writes are synced. Without an answer, what was known of the servers stays."""
        now = asyncio.get_running_loop().time()
        if now < self._ask_config_at:
            return
        try:
            self._fsync_problems = await fsync_problems(self._clients)
        except SluiceError as error:
            if not error.retryable:
                self._ask_config_at = now + CONFIG_INTERVAL_SECONDS

    def _update_servers(self, infos: Mapping[str, Info]) -> None:
        run_ids = {address: info.get("run_id", "") for address, info in infos.items()}
        if self._run_ids and run_ids != self._run_ids:
            restarted = [a for a in run_ids if self._run_ids.get(a, run_ids[a]) != run_ids[a]]
            if restarted:
                self._count_replacement("restarted", servers=restarted)
            # A new master: a replica was promoted, or the cluster grew.
            if run_ids.keys() != self._run_ids.keys():
                new_masters = sorted(run_ids.keys() - self._run_ids.keys())
                self._count_replacement("failed_over", servers=new_masters)
        self._run_ids = run_ids

    def _count_replacement(self, what: str, **facts: object) -> None:
        self._clients.metrics.replaced.labels(what).inc()
        _log.warning(f"redis.{what}", **facts)


@asynccontextmanager
async def open_redis_monitor(
    clients: RedisClients,
    options: RedisOptions,
    interval_seconds: float = INTERVAL_SECONDS,
    durability: Durability = Durability.MEMORY,
) -> AsyncIterator[RedisMonitor]:
    """Yield a monitor that has checked once and checks at intervals."""
    monitor = RedisMonitor(clients, options, await get_or_create_nonce(clients), durability)
    await monitor.check()
    checking = asyncio.create_task(monitor.run(interval_seconds), name="redis.monitor")
    try:
        yield monitor
    finally:
        checking.cancel()
        (ended,) = await asyncio.gather(checking, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended
