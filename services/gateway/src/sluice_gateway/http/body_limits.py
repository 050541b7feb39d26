"""Limits of request bodies: size, counted while the body is read, and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_core.errors import SluiceError
from sluice_gateway.http.addresses import network_of
from sluice_gateway.http.authentication import principal_of
from sluice_gateway.http.early_answers import EarlyAnswers
from sluice_gateway.http.refusals import (
    body_stalled,
    body_too_large,
    malformed_request,
    too_many_bodies,
)
from sluice_gateway.http.shares import FairShares

_STRANGER_WEIGHT: Final = 1 / 8
"""What an address without a principal may have, of what is free."""


class BodyLimits:
    """Refuses bodies that are too large or too slow, whatever they declare.

    Args:
        max_bytes: returns the limit of one body by the path; None for a route that limits its
            bodies itself.
        max_total_bytes: of all bodies that this process holds, from their first byte to the end
            of their request.
        seconds: from the first read to the last byte.
        answer: returns the response for an error of a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: Callable[[str], int | None],
        max_total_bytes: int,
        seconds: float,
        answer: Callable[[Scope, SluiceError], Response],
    ) -> None:
        self._app = app
        self._answer = answer
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._room = Room(max_total_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        max_bytes = self._max_bytes(scope["path"]) if scope["type"] == "http" else None
        if max_bytes is None:
            await self._app(scope, receive, send)
            return
        early = EarlyAnswers(scope, receive, send)
        if _declared_bytes(scope) > max_bytes:
            answer = self._answer(scope, body_too_large(max_bytes))
            await answer(scope, early.receive, early.send)
            return
        body = _LimitedBody(scope, early.receive, self._room, max_bytes, self._seconds)
        try:
            await self._app(scope, body.receive, early.send)
        finally:
            body.release()


class Room:
    """Memory for the bodies of one process, shared among tenants and addresses.

    Requests without a principal have a quarter at most: addresses are cheap, and most of these
    requests can be answered without their body.
    """

    def __init__(self, max_bytes: int) -> None:
        self._shares = FairShares(max_bytes)
        self._left_for_strangers = max_bytes // 4

    def take(self, scope: Scope, size: int) -> Callable[[], None]:
        """Take room; return what gives it back.

        Raise `Unavailable` UNFINISHED_MESSAGES, with nothing taken, without room.
        """
        principal = principal_of(scope)
        if principal is not None:
            holder, weight, of_strangers = f"tenant:{principal.tenant}", 1.0, 0
        else:
            holder, weight, of_strangers = f"address:{_address(scope)}", _STRANGER_WEIGHT, size
        if of_strangers > self._left_for_strangers:
            raise too_many_bodies()
        if not self._shares.take(holder, size, weight):
            raise too_many_bodies()
        self._left_for_strangers -= of_strangers

        def release() -> None:
            self._shares.release(holder, size)
            self._left_for_strangers += of_strangers

        return release


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return network_of(client[0]) if client else "unknown"


class _LimitedBody:
    def __init__(
        self, scope: Scope, receive: Receive, room: Room, max_bytes: int, seconds: float
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._room = room
        self._held: list[Callable[[], None]] = []
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
        if size:
            self._held.append(self._room.take(self._scope, size))
        self._left -= size
        self._is_complete = not message.get("more_body", False)
        if self._left < 0:
            raise body_too_large(self._max_bytes)
        return message

    def release(self) -> None:
        """Give the room back: the request has ended, and nothing holds its body."""
        while self._held:
            self._held.pop()()


def _declared_bytes(scope: Scope) -> int:
    """Return `Content-Length`, 0 without one. The parser has checked that there is one at most."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                raise malformed_request()
            return int(value)
    return 0
