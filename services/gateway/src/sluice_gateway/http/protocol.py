"""HTTP/1.1 connections with limits that uvicorn lacks: time and size of headers."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

from sluice_core.errors import SluiceError
from sluice_gateway.http.dropping import DroppableHttp
from sluice_gateway.http.problems import problem_response
from sluice_gateway.http.refusals import headers_too_large, malformed_request

HEADER_SECONDS: Final = 10.0
"""From the connection, or the first byte of a further request, to the end of the headers."""
LINGER_SECONDS: Final = 5.0
"""How long the rest of a body may arrive whose request was answered before its end."""
MAX_HEADER_BYTES: Final = 32 * 1024
"""Request line and headers of one request; a token has at most 12 KiB."""
_SLACK_BYTES: Final = 256 * 1024
"""Largest piece that asyncio reads at once: it may hold headers and the begin of the body."""


class LimitedProtocol(DroppableHttp):
    """One connection.

    uvicorn waits forever for the end of headers, and keeps any amount of them. Its parser refuses
    ambiguous lengths (request smuggling) itself.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._header_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._unparsed_bytes = 0
        self._is_in_headers = True
        self._refusal: SluiceError = malformed_request()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._is_in_headers:
            self._start_header_timer()
            # The parser keeps the begin of a header to itself until it has its end.
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > MAX_HEADER_BYTES + _SLACK_BYTES:
                self._refuse_headers()
                self.send_400_response("")
                return
        super().data_received(data)

    # -- callbacks of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        self._is_in_headers = True
        self._start_header_timer()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_headers = False
        self._unparsed_bytes = 0
        self._stop_header_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_headers = True
        self._unparsed_bytes = 0
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
