"""One Redis server: a bounded pool of connections, and one exchange on one of them."""

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
    """One address. Nothing is ever sent twice from here, because a repeated RPUSH would double a
    block (docs/protocol.md, rule 1).

    The connections have no timeout of their own; whoever calls has one for the whole exchange,
    which includes waiting for a connection. Leaving an exchange early, by that timeout or by
    cancellation, closes the connection it was on.
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
        """What logs and metrics call it."""
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
        """Send commands in one go over one connection; their replies in order, an error reply as a
        `ResponseError` among them. Raises what redis-py raises when there is no reply."""
        link = await self.take()
        try:
            return await link.send(commands)
        finally:
            self.give_back(link)

    async def take(self) -> Link:
        """A connection for the caller alone, until `give_back`; waits when all are taken."""
        await self._free.acquire()
        try:
            while self._idle:
                link = self._idle.pop()
                if link.is_open and link.is_quiet():
                    return link
                self._close(link)
            link = await Link.open(self._connection_class(**self._arguments))
            self._links.add(link)
            return link
        except BaseException:
            self._free.release()
            raise

    def give_back(self, link: Link) -> None:
        """Anyone may have it now. One on which a reply is still to come is closed: the reply would
        be nobody's, and nothing may follow what was given up half-way."""
        if link.is_open and link.is_idle and not self._closed:
            self._idle.append(link)
        else:
            self._close(link)
        self._free.release()

    async def subscription(self) -> Subscription:
        """A connection beside the pool, for subscriptions: they last, and would starve the others.
        The caller closes it."""
        return await Subscription.open(self._connection_class(**self._arguments))

    async def aclose(self) -> None:
        """Close every connection. Whoever was about to use this server gets one that ends with
        its exchange: a cluster drops servers while commands are on their way to them."""
        self._closed = True
        links, self._links = self._links, set()
        self._idle.clear()
        await asyncio.gather(*(link.aclose() for link in links))

    def _close(self, link: Link) -> None:
        self._links.discard(link)
        link.abort()
