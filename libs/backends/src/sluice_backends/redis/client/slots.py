"""Which server has which slot of a Redis Cluster.

redis-py's own cluster client is not used: it hands out no connection, so that a script and its
WAIT could not be on the same one, it sends ASKING over another connection than the command that it
is for, and beyond its bound of connections it fails instead of waiting. What remains to be done by
hand is a table and two kinds of redirection.
"""

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
    """Servers by slot, read with CLUSTER SLOTS and again after a server failed or a slot moved."""

    def __init__(self, options: RedisOptions) -> None:
        self._options = options
        self._seed = Server(options)
        self._servers: dict[Address, Server] = {self._seed.address: self._seed}
        self._owners: list[Address | None] = [None] * SLOTS
        self._stale = True
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def server_of(self, key: str) -> Server:
        """The server to ask for a key; reads the table first if it is known to be old."""
        await self._read_if_stale()
        owner = self._owners[key_slot(key.encode())]
        if owner is None:
            raise ClusterDownError("a slot of the cluster has no server")
        return self.at(owner)

    async def masters(self) -> Sequence[Server]:
        await self._read_if_stale()
        return [self.at(address) for address in dict.fromkeys(self._owners) if address is not None]

    def at(self, address: Address) -> Server:
        if address not in self._servers:
            self._servers[address] = Server(self._options, address)
        return self._servers[address]

    def moved(self, slot: int, address: Address) -> Server:
        """The server that a MOVED reply named. Others will have moved too: read the table anew."""
        self._owners[slot] = address
        self._stale = True
        return self.at(address)

    def suspect(self) -> None:
        """A server failed: another may have its slots by now."""
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
        # While it fails over, everybody finds the table stale; asking more often would not help.
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
            self._take(server, reply)
            self._stale, self._read_at = False, loop.time()
            await self._forget_servers_without_slots()
            return
        self._read_at = loop.time()
        if not any(self._owners):
            raise failure
        _log.warning("redis.slots_not_read", error=str(failure))

    def _take(self, asked: Server, ranges: list[Any]) -> None:
        owners: list[Address | None] = [None] * SLOTS
        for first, last, master, *_ in ranges:
            # An empty host means: the one you asked.
            address = (master[0].decode() or asked.address[0], int(master[1]))
            owners[first : last + 1] = [address] * (last - first + 1)
        self._owners = owners

    async def _forget_servers_without_slots(self) -> None:
        """Where addresses come and go with pods, their idle connections would pile up."""
        kept = {*self._owners, self._seed.address}
        gone = [self._servers.pop(address) for address in self._servers.keys() - kept]
        try:
            await _close(gone)
        except (RedisError, OSError) as error:
            _log.info("redis.server_not_closed", error=str(error))


async def _close(servers: Iterable[Server]) -> None:
    """Close every server, also when closing one fails; then raise the first failure."""
    results = await asyncio.gather(*(each.aclose() for each in servers), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
