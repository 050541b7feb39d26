"""One Redis server: a bounded pool of connections, and one exchange on one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from sluice_common.coordination.redis.options import RedisOptions

Argument = bytes | bytearray | memoryview | str | int | float
Command = Sequence[Argument]

_READ_BYTES = 256 * 1024
"""A slice of a chunk arrives in few reads, and an idle connection holds no such buffer."""


class Server:
    """One address. Nothing is ever sent twice from here: redis-py's own retries are off, because
    a repeated RPUSH would double a block (docs/protocol.md, rule 1).

    The connections have no timeout of their own; whoever calls has one for the whole exchange,
    which includes waiting for a connection. Leaving an exchange early, by that timeout or by
    cancellation, closes the connection it was on: the reply still to come is nobody else's.
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
        self._arguments = arguments | {
            "timeout": None,
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": options.connect_timeout_seconds,
            "socket_read_size": _READ_BYTES,
            "retry": Retry(NoBackoff(), 0),
        }
        self._pool = BlockingConnectionPool(
            **self._arguments, max_connections=options.max_connections
        )

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one go over one connection; their replies in order, an error reply as a
        `ResponseError` among them. Raises what redis-py raises when there is no reply."""
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await _send(connection, commands)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
            return replies
        finally:
            await self._pool.release(connection)

    def subscriber(self) -> Redis:
        """A client with a connection of its own beside the pool, for subscriptions: they last, and
        would starve the others. The caller closes it."""
        pool = BlockingConnectionPool(**self._arguments, max_connections=1)
        return Redis.from_pool(pool)

    async def aclose(self) -> None:
        await self._pool.aclose()


async def _send(connection: AbstractConnection, commands: Sequence[Command]) -> None:
    try:
        await connection.send_packed_command(connection.pack_commands(commands))
    except RuntimeError as error:
        # uvloop's word for a transport that was reset since the connection was found usable;
        # asyncio's own transports lose such a write in silence.
        if "is closed" not in str(error):
            raise
        raise RedisConnectionError("The connection was closed before it was written to.") from error
