"""One Redis server: a bounded pool of connections."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sluice_backends.redis.client.link import Link
from sluice_backends.redis.client.resp import Argument, Command
from sluice_backends.redis.client.subscription import Subscription
from sluice_backends.redis.options import RedisOptions

__all__ = ["Argument", "Command", "Server"]


class Server:
    """Connection pool of one address.

    Nothing is sent twice: a repeated RPUSH would duplicate a block (docs/protocol.md, rule 1).

    Connections have no timeout. The caller limits the whole exchange, waiting for a connection
    included. An exchange that times out or is cancelled closes its connection.
    """

    def __init__(self, options: RedisOptions, address: tuple[str, int] | None = None) -> None:
        # Typed as Any: the parts of a URL are keyword arguments of redis-py's connections.
        arguments: dict[str, Any] = dict(parse_url(options.url))
        if address is not None:
            arguments["host"], arguments["port"] = address
        self.address: tuple[str, int] = (
            str(arguments.get("host", "localhost")),
            int(arguments.get("port", 6379)),
        )
        self.name = str(arguments.get("path", f"{self.address[0]}:{self.address[1]}"))
        """Name in logs and metrics."""
        self._connection_class: type[AbstractConnection] = arguments.pop(
            "connection_class", Connection
        )
        self._arguments = arguments | {
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": options.connect_timeout_seconds,
            "retry": Retry(NoBackoff(), 0),
        }
        self._free = asyncio.Semaphore(options.max_connections)
        self._links: set[Link] = set()
        self._idle: list[Link] = []
        self._closed = False

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands over one connection; return their replies in order.

        An error reply is a `ResponseError` among them. Raise redis-py's errors when there is no
        reply.
        """
        link = await self.acquire()
        try:
            return await link.send(commands)
        finally:
            self.release(link)

    async def acquire(self) -> Link:
        """Return a connection for exclusive use until `release`; wait if all are in use."""
        await self._free.acquire()
        try:
            while self._idle:
                link = self._idle.pop()
                if link.is_open and link.has_no_input():
                    return link
                self._close(link)
            link = await Link.open(self._connection_class(**self._arguments))
            self._links.add(link)
            return link
        except BaseException:
            self._free.release()
            raise

    def release(self, link: Link) -> None:
        """Return a connection to the pool.

        A connection with an outstanding reply is closed: the next caller would receive that reply,
        and no command may follow an abandoned one.
        """
        if link.is_open and link.is_idle and not self._closed:
            self._idle.append(link)
        else:
            self._close(link)
        self._free.release()

    async def subscription(self) -> Subscription:
        """Open a connection outside the pool, which long-lived subscriptions would exhaust.

        The caller closes it.
        """
        return await Subscription.open(self._connection_class(**self._arguments))

    async def aclose(self) -> None:
        """Close every connection.

        Later exchanges open a connection that is closed after use: a cluster drops servers while
        commands are being routed to them.
        """
        self._closed = True
        links, self._links = self._links, set()
        self._idle.clear()
        await asyncio.gather(*(link.aclose() for link in links))

    def _close(self, link: Link) -> None:
        self._links.discard(link)
        link.abort()
