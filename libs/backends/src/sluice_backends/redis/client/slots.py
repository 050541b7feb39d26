"""Slot table of a Redis Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import structlog
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, RedisError, ResponseError

from sluice_backends.redis.client.server import Server
from sluice_backends.redis.options import RedisOptions

SLOTS: Final = 16384
_REFRESH_SECONDS = 1.0

_log = structlog.get_logger(__name__)

Address = tuple[str, int]


class SlotTable:
    """Servers by slot, read with CLUSTER SLOTS and again after a server failed or a slot moved.

    It replaces redis-py's cluster client, which does not expose connections (a script and its WAIT
    must share one), sends ASKING over another connection than its command, and fails instead of
    waiting when its connections are exhausted.
    """

    def __init__(self, options: RedisOptions) -> None:
        self._options = options
        self._seed = Server(options)
        self._servers: dict[Address, Server] = {self._seed.address: self._seed}
        self._owners: list[Address | None] = [None] * SLOTS
        self._stale = True
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def server_of(self, key: str) -> Server:
        """Return the server of a key; read the table first if it is stale."""
        await self._read_if_stale()
        owner = self._owners[key_slot(key.encode())]
        if owner is None:
            raise ClusterDownError("a slot of the cluster has no server")
        return self.server_at(owner)

    async def masters(self) -> Sequence[Server]:
        await self._read_if_stale()
        return [
            self.server_at(address)
            for address in dict.fromkeys(self._owners)
            if address is not None
        ]

    def server_at(self, address: Address) -> Server:
        if address not in self._servers:
            self._servers[address] = Server(self._options, address)
        return self._servers[address]

    def assign(self, slot: int, address: Address) -> Server:
        """Return the server that a MOVED reply named.

        Marks the table stale, since other slots have probably moved too.
        """
        self._owners[slot] = address
        self._stale = True
        return self.server_at(address)

    def mark_stale(self) -> None:
        """Reread the table: after a server failure another server may have its slots."""
        self._stale = True

    async def aclose(self) -> None:
        await _close(self._servers.values())

    async def _read_if_stale(self) -> None:
        if not self._is_due():
            return
        async with self._reading:
            if self._is_due():
                await self._read()

    def _is_due(self) -> bool:
        # During a failover every caller finds the table stale; more frequent reads do not help.
        now = asyncio.get_running_loop().time()
        return self._stale and now - self._read_at >= _REFRESH_SECONDS

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        failure: Exception = ClusterDownError("no server of the cluster answers")
        for server in list(self._servers.values()):
            try:
                async with asyncio.timeout(self._options.connect_timeout_seconds):
                    (reply,) = await server.exchange([("CLUSTER", "SLOTS")])
            except (RedisError, OSError, TimeoutError) as error:
                failure = error
                continue
            if isinstance(reply, ResponseError):
                failure = reply
                continue
            self._apply(server, reply)
            self._stale, self._read_at = False, loop.time()
            await self._close_unused_servers()
            return
        self._read_at = loop.time()
        if not any(self._owners):
            raise failure
        _log.warning("redis.slots_read_failed", error=str(failure))

    def _apply(self, source: Server, ranges: list[Any]) -> None:
        owners: list[Address | None] = [None] * SLOTS
        for first, last, master, *_ in ranges:
            # An empty host means the server that replied.
            address = (master[0].decode() or source.address[0], int(master[1]))
            owners[first : last + 1] = [address] * (last - first + 1)
        self._owners = owners

    async def _close_unused_servers(self) -> None:
        """Close servers without slots: as pods change addresses, idle connections would pile up."""
        used = {*self._owners, self._seed.address}
        unused = [self._servers.pop(address) for address in self._servers.keys() - used]
        try:
            await _close(unused)
        except (RedisError, OSError) as error:
            _log.info("redis.server_close_failed", error=str(error))


async def _close(servers: Iterable[Server]) -> None:
    """Close every server, also after a failure; then raise the first failure."""
    results = await asyncio.gather(*(each.aclose() for each in servers), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
