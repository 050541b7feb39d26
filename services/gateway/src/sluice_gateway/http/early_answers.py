"""Answers before the end of a request's body."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from starlette.types import Message, Receive, Scope, Send

_DRAINED_BYTES: Final = 8 * 1024 * 1024
_DRAIN_SECONDS: Final = 1.0
"""How much of a refused body is read and dropped. A kernel that receives bytes for a closed socket
resets the connection, and a client that is still sending may lose the answer."""

_Headers = Sequence[tuple[bytes, bytes]]


async def drain(receive: Receive, seconds: float = _DRAIN_SECONDS) -> None:
    """Read and drop the rest of a body, within bounds. Only after the begin of the answer.

    Before it, the server invites the body of a client that waits for `100 Continue`.
    """
    drained = 0
    try:
        async with asyncio.timeout(seconds):
            while drained < _DRAINED_BYTES:
                message = await receive()
                if not message.get("more_body", False):  # the end, or a disconnect
                    return
                drained += len(message.get("body", b""))
    except TimeoutError:
        return


def waits_for_invitation(scope: Scope) -> bool:
    """Return whether the client sends its body after `100 Continue` only."""
    return any(
        name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"]
    )


class EarlyAnswers:
    """Wraps the ends of a request whose answer may come before the end of its body.

    An answer that closes the connection is sent first; then the rest of the body is dropped for a
    moment, and then the connection closed. A body that was never invited does not come: such an
    answer closes the connection, because nobody knows what the client sends next.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_uninvited = waits_for_invitation(scope)
        self._is_complete = not _has_body(scope["headers"])
        self._closes = False

    async def receive(self) -> Message:
        self._is_uninvited = False
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_complete = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            self._closes = _closes(headers)
            if self._is_uninvited and not self._is_complete and not self._closes:
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
        elif self._closes and not message.get("more_body", False) and self._must_drain:
            await self._send({**message, "more_body": True})
            await drain(self._receive)
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    @property
    def _must_drain(self) -> bool:
        return not self._is_complete and not self._is_uninvited


def _has_body(headers: _Headers) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    )


def _closes(headers: _Headers) -> bool:
    return any(name == b"connection" and value.lower() == b"close" for name, value in headers)
