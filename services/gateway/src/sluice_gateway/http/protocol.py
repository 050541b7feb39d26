"""HTTP/1.1 connections with limits that uvicorn lacks: time and size of headers."""

from __future__ import annotations

import asyncio
import functools
import secrets
from typing import Any, Final

from sluice_core.errors import SluiceError
from sluice_gateway.http.connections import Connections
from sluice_gateway.http.dropping import DroppableHttp
from sluice_gateway.http.problems import problem_response
from sluice_gateway.http.refusals import headers_too_large, malformed_request, too_many_connections

HEADER_SECONDS: Final = 10.0
"""From the connection, or the first byte of a further request, to the end of the headers."""
LINGER_SECONDS: Final = 5.0
"""How long the rest of a body may arrive whose request was answered before its end."""
MAX_HEADER_BYTES: Final = 32 * 1024
"""Request line and headers of one request; a token has at most 12 KiB."""
MAX_PIPELINED: Final = 64
"""Requests that wait for the answer of an earlier one; browsers send none that early."""


# Size: half of its methods are callbacks that uvicorn and its parser name.
class LimitedProtocol(DroppableHttp):
    """One connection.

    uvicorn waits forever for the end of headers, and keeps any amount of them. Its parser refuses
    ambiguous lengths (request smuggling) itself, and keeps what has no end yet: a header, a trailer
    or an extension of a chunk.
    """

    def __init__(self, *arguments: Any, connections: Connections, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._connections_kept = connections
        self._header_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._unparsed_bytes = 0
        self._is_in_headers = True
        self._refusal: SluiceError = malformed_request()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        host = self.client[0] if self.client else ""
        if self._connections_kept.admit(host):
            self.guarded.on_lost = functools.partial(self._connections_kept.release, host)
            self._start_header_timer()
        else:
            self._refusal = too_many_connections()
            self.send_400_response("")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.guarded.feed(data, self._parse)

    def _parse(self, data: bytes) -> None:
        if self._is_in_headers:
            self._start_header_timer()
        self._unparsed_bytes += len(data)
        super().data_received(data)
        # Callbacks have set it to 0 for whatever has come to its end.
        if self._unparsed_bytes > MAX_HEADER_BYTES:
            self._refuse_headers()
            self.send_400_response("")

    def handle_websocket_upgrade(self) -> None:
        self.guarded.discard_rest()  # no client sends frames before the handshake is complete
        super().handle_websocket_upgrade()

    # -- callbacks of the parser

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests wait")
        super().on_message_begin()
        self._header_bytes = 0
        self._unparsed_bytes = 0
        self._is_in_headers = True
        self._start_header_timer()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        if self._is_in_headers:
            super().on_header(name, value)
        # Else it is a trailer, which must not become a header (RFC 9110, 6.5.1).

    def on_headers_complete(self) -> None:
        self._is_in_headers = False
        self._unparsed_bytes = 0
        self._stop_header_timer()
        self.guarded.simple_bytes = _content_length(self.headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        self.guarded.simple_bytes = max(0, self.guarded.simple_bytes - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_in_headers = True
        self._unparsed_bytes = 0
        self.guarded.simple_bytes = 0
        self._stop_linger_timer()
        super().on_message_complete()

    # -- ends of requests

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # Of pipelined requests the last one may still be under way.
        is_unread = self.cycle.response_complete and self.cycle.more_body
        if is_unread and not self.transport.is_closing():
            self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no request, and end the connection."""
        self._stop_timers()
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # An answer is under way, or owed to an earlier request: two would be mixed up.
            self.transport.close()
            return
        answer = problem_response(self._refusal, secrets.token_hex(8), secrets.token_hex(16))
        answer.headers["connection"] = "close"
        lines = [f"HTTP/1.1 {answer.status_code} ".encode("ascii")]
        lines += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()

    def _count(self, size: int) -> None:
        self._unparsed_bytes = 0
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            self._refuse_headers()
            # The parser ends with an error of its own, which `data_received` answers.
            raise ValueError("headers are too large")

    def _refuse_headers(self) -> None:
        self._refusal = headers_too_large(MAX_HEADER_BYTES)

    def _start_header_timer(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self._headers_stalled)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_linger_timer(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None

    def _stop_timers(self) -> None:
        self._stop_header_timer()
        self._stop_linger_timer()

    def _headers_stalled(self) -> None:
        """End a connection that sends no complete headers."""
        self._header_timer = None
        if not self.transport.is_closing():
            self.transport.close()


def _content_length(headers: list[tuple[bytes, bytes]]) -> int:
    """Return the length of the body, 0 for one without a declared length."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
