"""Limits of request bodies: size, counted while the body is read, and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_gateway.http.refusals import (
    body_stalled,
    body_too_large,
    malformed_request,
    too_many_bodies,
)

_DRAINED_BYTES: Final = 8 * 1024 * 1024
_DRAIN_SECONDS: Final = 1.0
"""How much of a refused body is read and dropped. A client that is still sending when its
connection closes may lose the answer to a reset."""


class BodyLimits:
    """Refuses bodies that are too large or too slow, whatever they declare.

    Args:
        max_bytes: of one body.
        max_total_bytes: of all bodies that this process holds, from their first byte to the end
            of their request.
        seconds: from the first read to the last byte.
        is_exempt: whether the route of a path limits its bodies itself.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        max_total_bytes: int,
        seconds: float,
        *,
        is_exempt: Callable[[str], bool] = lambda _path: False,
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._room = Room(max_total_bytes)
        self._is_exempt = is_exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_exempt(scope["path"]):
            await self._app(scope, receive, send)
            return
        if _declared_bytes(scope) > self._max_bytes:
            await _drain(receive)
            raise body_too_large(self._max_bytes)
        body = _LimitedBody(receive, self._room, self._max_bytes, self._seconds)
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.release()


class Room:
    """Memory for the bodies of one process."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    def take(self, size: int) -> None:
        """Take room; raise `Unavailable` UNFINISHED_MESSAGES, with nothing taken, without it."""
        if size > self._left:
            raise too_many_bodies()
        self._left -= size

    def release(self, size: int) -> None:
        self._left += size


class _LimitedBody:
    def __init__(self, receive: Receive, room: Room, max_bytes: int, seconds: float) -> None:
        self._receive = receive
        self._room = room
        self._held = 0
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._deadline: float | None = None
        self._left = max_bytes
        self._is_complete = False

    async def receive(self) -> Message:
        """Return the next message. After the body, wait for the disconnect without a limit.

        Raise `ResourceExhausted` MESSAGE_TOO_LARGE, `DeadlineExceeded` MESSAGE_STALLED,
        `Unavailable` UNFINISHED_MESSAGES.
        """
        if self._is_complete:
            return await self._receive()
        if self._deadline is None:
            self._deadline = time.monotonic() + self._seconds
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise body_stalled() from None
        if message["type"] != "http.request":
            return message
        size = len(message.get("body", b""))
        self._room.take(size)
        self._held += size
        self._left -= size
        self._is_complete = not message.get("more_body", False)
        if self._left < 0:
            if not self._is_complete:
                await _drain(self._receive)
            raise body_too_large(self._max_bytes)
        return message

    def release(self) -> None:
        """Give the room back: the request has ended, and nothing holds its body."""
        self._room.release(self._held)
        self._held = 0


def _declared_bytes(scope: Scope) -> int:
    """Return `Content-Length`, 0 without one. The parser has checked that there is one at most."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                raise malformed_request()
            return int(value)
    return 0


async def _drain(receive: Receive) -> None:
    """Read and drop the rest of a body, within bounds."""
    dropped = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while dropped <= _DRAINED_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                dropped += len(message.get("body", b""))
    except TimeoutError:
        return
