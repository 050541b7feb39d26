"""Connections of uvicorn that can be dropped although their peers do not read."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Scope
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.http11 import Request

_EXTENSION: Final = "sluice.drop"

Drop = Callable[[int, str, float], None]
"""Ends a connection: close code, reason, and the seconds in which the peer may still read them.

An event stream has no close frame: it is cut at once.
"""


class SlowSubscriber(Exception):
    """The peer has not taken what was sent in time."""


async def send_within(seconds: float, sending: Awaitable[None]) -> None:
    """Wait until the connection has room and takes what is sent; raise `SlowSubscriber`."""
    try:
        async with asyncio.timeout(seconds):
            await sending
    except TimeoutError:
        raise SlowSubscriber from None


def find_drop(scope: Scope) -> Drop:
    """Return the function that drops the connection of a scope.

    Raise `RuntimeError` on a server without the protocols of this module: there a subscriber that
    does not read could keep its socket for ever.
    """
    extension = (scope.get("extensions") or {}).get(_EXTENSION)
    if extension is None:
        raise RuntimeError("the server cannot drop connections; run it with serving_http()")
    drop: Drop = extension["drop"]
    return drop


class DroppableHttp(HttpToolsProtocol):
    """HTTP connection whose scopes have the extension.

    uvicorn closes a connection by `transport.close()`, which first waits for the peer to read what
    is buffered. A peer that never reads would keep the socket.
    """

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"drop": self._drop}}

    def _drop(self, code: int, reason: str, linger_seconds: float) -> None:
        self.transport.abort()


class DroppableWebSocket(WebSocketsSansIOProtocol):
    """WebSocket whose scope has the extension, and whose ends do not depend on the peer."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):  # else the handshake was refused
            # The application's task has not run yet.
            self.scope["extensions"] = {
                **(self.scope["extensions"] or {}),
                _EXTENSION: {"drop": self._drop},
            }

    def keepalive_timeout(self) -> None:
        """End a WebSocket whose peer does not answer a ping."""
        self._drop(1011, "keepalive ping timeout", 0.0)

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.close" and self.close_timer is not None:
            self._abort_after(self.close_timeout)

    def _drop(self, code: int, reason: str, linger_seconds: float) -> None:
        """Write the close frame without waiting for room, and abort a little later.

        A peer that reads again within that time gets what is buffered and the close frame.
        """
        if not self.close_sent and not self.transport.is_closing():
            self.stop_keepalive()
            # Sends fail from now on, and what waits for room is released.
            self.disconnected = self.close_sent = True
            self.writable.set()
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            try:
                self.conn.send_close(code, reason)
            except InvalidState:
                linger_seconds = 0.0  # the peer has closed at the same moment
            self.transport.write(b"".join(self.conn.data_to_send()))
            if self.read_paused:
                self.read_paused = False
                self.transport.resume_reading()
        self._abort_after(linger_seconds)

    def _abort_after(self, seconds: float) -> None:
        if self.close_timer is not None:
            self.close_timer.cancel()
        abort = functools.partial(self.transport.abort)
        self.close_timer = self.loop.call_later(seconds, abort)
