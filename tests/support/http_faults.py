"""Scripted answers of a proxy in place of an HTTP/1.1 service.

For clients like those of S3, which send one request at a time on a connection, no pipelining.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus

_HEAD_END = b"\r\n\r\n"
_MAX_HEAD_BYTES = 64 * 1024
_MOST_NOTED = 10_000

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
"""The body of S3's 503."""

INTERNAL_ERROR = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
)
"""The body of S3's 500, which CompleteMultipartUpload may also answer with 200."""


@dataclass(slots=True)
class HttpFault:
    """An answer to requests of this method whose target contains `target`.

    method: "" matches any.
    target: part of path and query: "?uploadId=" with POST is CompleteMultipartUpload.
    times: number of requests to answer; None: all.
    """

    status: int
    body: bytes = b""
    method: str = ""
    target: str = ""
    times: int | None = 1
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/xml"),)

    def answers(self, method: str, target: str) -> bool:
        if self.times == 0 or self.method not in ("", method) or self.target not in target:
            return False
        if self.times is not None:
            self.times -= 1
        return True

    @property
    def answer(self) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            *(f"{name}: {value}" for name, value in self.headers),
            f"content-length: {len(self.body)}",
            "connection: close",
        ]
        return "\r\n".join(lines).encode() + _HEAD_END + self.body


@dataclass(slots=True)
class HttpFaults:
    """The scripted answers, which can change at any time, and a log of all requests."""

    faults: list[HttpFault] = field(default_factory=list)
    requests: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_NOTED))
    """`METHOD target` of the newest requests, answered here or not."""
    answered: int = 0
    """Number of requests answered by the proxy."""

    def add(self, fault: HttpFault) -> None:
        self.faults.append(fault)

    def clear(self) -> None:
        self.faults.clear()

    def answer_to(self, method: str, target: str) -> bytes | None:
        self.requests.append(f"{method} {target}")
        for fault in self.faults:
            if fault.answers(method, target):
                self.answered += 1
                return fault.answer
        return None


class HttpFilter:
    """Parses the requests of one connection and removes those that the proxy answers."""

    def __init__(self, faults: HttpFaults) -> None:
        self._faults = faults
        self._head = b""
        self._body: _Body | None = None
        self._answer: bytes | None = None
        self._over = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the bytes to forward, and the answer to send once its request is read completely.

        Closing the connection with an unread body would lose the answer.
        """
        forwarded = b""
        while data and not self._over:
            if self._body is None:
                parsed = self._read_head(data)
                if parsed is None:
                    break
                body, taken, data = parsed
                self._body = body
            else:
                body = self._body
                taken, data = body.read(data)
            if self._answer is None:
                forwarded += taken
            if body.complete:
                self._body = None
                if self._answer is not None:
                    self._over = True
                    return forwarded, self._answer
        return forwarded, None

    def _read_head(self, data: bytes) -> tuple[_Body, bytes, bytes] | None:
        self._head += data
        end = self._head.find(_HEAD_END)
        if end < 0:
            if len(self._head) > _MAX_HEAD_BYTES:
                raise ConnectionResetError("no HTTP request has a head this long")
            return None
        end += len(_HEAD_END)
        head, rest = self._head[:end], self._head[end:]
        self._head = b""
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        self._answer = self._faults.answer_to(method, target)
        body = _Body(headers)
        if self._answer is not None and "expect" in headers:
            body.complete = True  # the client waits for 100 Continue
        return body, head, rest


class _Body:
    """Parser of the end of a request's body, by length or chunked."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._left = 0 if self._chunked else int(headers.get("content-length", "0"))
        self._line = b""
        self._in_trailers = False
        self.complete = not self._chunked and self._left == 0

    def read(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the bytes of the body and the bytes after it."""
        if not self._chunked:
            taken, rest = data[: self._left], data[self._left :]
            self._left -= len(taken)
            self.complete = self._left == 0
            return taken, rest
        at = 0
        while at < len(data) and not self.complete:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
            else:
                self._line += data[at : at + 1]
                at += 1
                if self._line.endswith(b"\r\n"):
                    self._end_line(self._line[:-2])
                    self._line = b""
        return data[:at], data[at:]

    def _end_line(self, line: bytes) -> None:
        if self._in_trailers:
            self.complete = not line
        elif line:
            size = int(line.split(b";")[0], 16)
            self._in_trailers = size == 0
            self._left = size + 2 if size else 0  # its line end is part of a chunk
