"""Connections of uvicorn that can be dropped although their peers do not read."""

from __future__ import annotations

import asyncio
import functools
from asyncio.transports import BaseTransport
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Scope
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame
from websockets.http11 import Request

from sluice_core.rates.model import SECOND_US, Rate
from sluice_core.rates.token_bucket import Level, refill, wait_us
from sluice_gateway.http.transport import GuardedTransport

FRAMES: Final = Rate(500, SECOND_US, burst=2_000)
"""Frames of one WebSocket, of every kind."""
MAX_FRAGMENTS: Final = 64
"""Frames of one message."""

_FLOOD_LINGER_SECONDS: Final = 1.0
_EXTENSION: Final = "sluice.drop"
_NO_HANDSHAKE: Final = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

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
    """HTTP connection whose scopes have the extension, and whose end does not depend on the peer.

    uvicorn closes a connection by `transport.close()`, which first waits for the peer to read what
    is buffered. A peer that never reads would keep the socket.
    """

    guarded: GuardedTransport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.guarded = GuardedTransport(transport, self.loop)
        super().connection_made(self.guarded)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guarded.lost()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.guarded.writing_paused(hold_reading=False)

    def resume_writing(self) -> None:
        self.guarded.writing_resumed()
        super().resume_writing()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"drop": self._drop}}

    def _drop(self, code: int, reason: str, linger_seconds: float) -> None:
        self.transport.abort()


class DroppableWebSocket(WebSocketsSansIOProtocol):
    """WebSocket whose scope has the extension, and whose ends do not depend on the peer.

    Its frames are limited too: each is work for the event loop, also those that no application
    sees, because they are empty, begin a message or are control frames.
    """

    guarded: GuardedTransport

    def connection_made(self, transport: BaseTransport) -> None:
        assert isinstance(transport, GuardedTransport), "the HTTP connection has made it"
        self.guarded = transport
        self._frames = refill(FRAMES, None, self._now_us())
        self._is_flooding = False
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guarded.lost()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        # A ping is answered at once, whether or not the peer reads the pongs.
        self.guarded.writing_paused(hold_reading=True)

    def resume_writing(self) -> None:
        self.guarded.writing_resumed()
        super().resume_writing()

    # -- what arrives

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated:
            if not self._is_flooding:
                self.guarded.feed(data, super().data_received)
            return
        super().data_received(data)
        if not self.handshake_initiated:
            # The parser gave up on the request, for example because it has too many headers. It
            # waits for nothing more, and nobody would end the connection.
            self.transport.write(_NO_HANDSHAKE)
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):  # else the handshake was refused
            # The application's task has not run yet.
            self.scope["extensions"] = {
                **(self.scope["extensions"] or {}),
                _EXTENSION: {"drop": self._drop},
            }

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self._refuse_flood()
        if self._takes_frame():
            super().handle_cont(event)

    def handle_text(self, event: Frame) -> None:
        if self._takes_frame():
            super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        if self._takes_frame():
            super().handle_bytes(event)

    def handle_ping(self) -> None:
        if self._takes_frame():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._takes_frame():
            super().handle_pong(event)

    def _takes_frame(self) -> bool:
        """Count a frame; return False, and end the connection, if there are too many."""
        if self._is_flooding:
            return False
        level = refill(FRAMES, self._frames, self._now_us())
        if wait_us(FRAMES, level, 1) > 0:
            self._refuse_flood()
            return False
        self._frames = Level(level.content - FRAMES.period_us, level.at_us)
        return True

    def _refuse_flood(self) -> None:
        self._is_flooding = True
        self.guarded.discard_rest()
        self._drop(1008, "TOO_MANY_FRAMES", _FLOOD_LINGER_SECONDS)

    def _now_us(self) -> int:
        return int(self.loop.time() * SECOND_US)

    # -- ends

    def keepalive_timeout(self) -> None:
        """End a WebSocket whose peer does not answer a ping."""
        self._drop(1011, "keepalive ping timeout", 0.0)

    def shutdown(self) -> None:
        """End it because the server stops."""
        if self.transport.is_closing():
            # Its peer has said goodbye, and does not read what is buffered.
            self.stop_keepalive()
            self.transport.abort()
            return
        super().shutdown()

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
