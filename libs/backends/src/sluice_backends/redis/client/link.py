"""One connection to a Redis server."""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Sequence
from typing import Any, Self, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from sluice_backends.redis.client.redis_py_internals import detach_transport, transport_of
from sluice_backends.redis.client.resp import Command, ReplyReader, encode

Replies = asyncio.Future[list[Any]]


class Link(asyncio.BufferedProtocol):
    """Connection that pipelines commands; replies arrive in order of sending.

    Nothing is sent twice. When the connection ends, all commands without a reply fail; their
    outcome is unknown.
    """

    def __init__(self) -> None:
        self._reader = ReplyReader(self._on_reply)
        self._unanswered: deque[tuple[Replies, int, list[Any]]] = deque()
        self._transport: asyncio.Transport | None = None
        self._opened: AbstractConnection | None = None
        self._ended = asyncio.Event()
        self._incoming = select.poll()

    @classmethod
    async def open(cls, connection: AbstractConnection) -> Self:
        """Take over a connection that redis-py has opened.

        The library handles addresses, TLS, login and database. Raise its errors.
        """
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        link = cls()
        transport = transport_of(connection)
        transport.set_protocol(link)
        link.connection_made(transport)
        link._opened = connection
        return link

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_idle(self) -> bool:
        """Whether every command has its reply."""
        return not self._unanswered

    def send(self, commands: Sequence[Command]) -> Replies:
        """Write commands; return a future of all their replies.

        An error reply is a `ResponseError` among them. The future fails with `ConnectionError` and
        the like when there is no reply. Large arguments must not change until it is done.
        """
        replies: Replies = asyncio.get_running_loop().create_future()
        self._write(commands)
        self._unanswered.append((replies, len(commands), []))
        return replies

    def _write(self, commands: Sequence[Command]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise _lost()
        pieces = encode(commands)
        try:
            transport.writelines(pieces)
        except RuntimeError as error:
            # uvloop raises for a transport that was reset after the check above; asyncio's own
            # transports drop such a write silently.
            self.abort()
            if "is closed" not in str(error):
                raise
            raise _lost() from error

    def has_no_input(self) -> bool:
        """Return True if no input is pending.

        Input on an idle connection means that the server has closed it and the event loop has not
        processed that yet.
        """
        if self._transport is None:
            return False
        return not self._incoming.poll(0)

    def abort(self) -> None:
        """Close at once and drop unwritten data."""
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self) -> None:
        self.abort()
        await self._ended.wait()

    # -- callbacks of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's transports do not descend from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._incoming.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._reader.filled(nbytes)
        except InvalidResponse as error:
            self._fail(error)
            self.abort()

    def eof_received(self) -> bool:
        return False  # close

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._opened is not None:
            detach_transport(self._opened)
        self._fail(exc if isinstance(exc, OSError) else _lost())
        self._ended.set()

    # -- replies

    def _on_reply(self, reply: Any) -> None:
        if not self._unanswered:
            raise InvalidResponse("reply without a command")
        replies, count, so_far = self._unanswered[0]
        so_far.append(reply)
        if len(so_far) < count:
            return
        self._unanswered.popleft()
        if replies.done():
            return  # the caller was cancelled
        for each in so_far:
            # redis-py maps replies of a server that is not ready to connection errors.
            if isinstance(each, Exception) and not isinstance(each, ResponseError):
                replies.set_exception(each)
                return
        replies.set_result(so_far)

    def _fail(self, error: Exception) -> None:
        while self._unanswered:
            replies, _, _ = self._unanswered.popleft()
            if not replies.done():
                replies.set_exception(error)


def _lost() -> RedisConnectionError:
    return RedisConnectionError("The connection was closed before the reply.")
