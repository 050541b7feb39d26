"""RESP2 codec with minimal copies of large values.

It replaces redis-py's on the hot path, which copies a received block four times (ADR 0013).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.exceptions import InvalidResponse

from sluice_backends.redis.client.redis_py_internals import BaseParser

Argument = bytes | bytearray | memoryview | str | int | float
Command = Sequence[Argument]

LARGE_BYTES: Final = 8 * 1024
"""Values of this size or more are sent without a copy; smaller ones are joined with their
neighbours."""

_BUFFER_BYTES: Final = 2 * LARGE_BYTES
"""Size of the receive buffer; a value below LARGE_BYTES always fits."""

_END: Final = b"\r\n"
_STATUS, _ERROR, _INTEGER, _BULK, _ARRAY = b"+-:$*"

# Part of CPython's stable C API: returns an uninitialized bytearray. Zeroing a receive buffer costs
# as much as a copy.
_new_buffer = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new_buffer.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
_new_buffer.restype = ctypes.py_object


def encode(commands: Sequence[Command]) -> list[bytes | bytearray | memoryview]:
    """Return the pieces to write, in order; large arguments are not copied."""
    pieces: list[bytes | bytearray | memoryview] = []
    small: list[bytes | bytearray | memoryview] = []
    for command in commands:
        small.append(b"*%d\r\n" % len(command))
        for argument in command:
            if isinstance(argument, (bytes, bytearray, memoryview)):
                size = len(argument)
                if size >= LARGE_BYTES:
                    small.append(b"$%d\r\n" % size)
                    pieces += (b"".join(small), argument)
                    small = [_END]
                else:
                    small += (b"$%d\r\n" % size, argument, _END)
                continue
            data = argument.encode() if isinstance(argument, str) else b"%r" % argument
            small.append(b"$%d\r\n%b\r\n" % (len(data), data))
    pieces.append(b"".join(small))
    return pieces


class ReplyReader:
    """Parser of replies. Read into `room()` from the socket, then report the size with `filled`.

    Replies are bytes, int, None, lists of them, and exceptions for error replies. A value of
    LARGE_BYTES or more is received directly into its own bytearray, which the caller owns.

    Args:
        on_reply: called with each complete reply.
    """

    def __init__(self, on_reply: Callable[[Any], None]) -> None:
        self._on_reply = on_reply
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0
        self._large: bytearray | None = None
        self._rest = memoryview(b"")
        """Unfilled rest of the large value."""
        self._skip = 0
        """Bytes to skip of the line end after a large value."""
        self._open: list[tuple[list[Any], int]] = []
        """Incomplete arrays with their lengths, the innermost last."""

    def room(self) -> memoryview:
        """Return the buffer for the next bytes; never empty."""
        if self._large is not None:
            return self._rest
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._begin:
            left = self._end - self._begin
            self._view[:left] = bytes(self._view[self._begin : self._end])
            self._begin, self._end = 0, left
        return self._view[self._end :]

    def filled(self, size: int) -> None:
        """Parse `size` bytes that were written to the start of `room()`.

        Raise `InvalidResponse` for input that is no reply.
        """
        if self._large is None:
            self._end += size
            self._parse()
        elif size == len(self._rest):
            self._end_large()
        else:
            self._rest = self._rest[size:]

    def _end_large(self) -> None:
        value, self._large, self._rest = self._large, None, memoryview(b"")
        self._skip = len(_END)
        self._add(value)

    def _parse(self) -> None:
        buffer = self._buffer
        while True:
            if self._skip:
                skipped = min(self._skip, self._end - self._begin)
                self._begin += skipped
                self._skip -= skipped
            end = buffer.find(_END, self._begin, self._end)
            if end < 0:
                if self._end - self._begin == _BUFFER_BYTES:
                    raise InvalidResponse("a line of the reply is too long")
                return
            kind, line = buffer[self._begin], bytes(self._view[self._begin + 1 : end])
            after = end + len(_END)
            if kind == _BULK:
                size = _number(line)
                if size >= LARGE_BYTES:
                    self._begin = after
                    if not self._begin_large(size):
                        return
                    continue
                if size >= 0:
                    if self._end < after + size + len(_END):
                        return  # incomplete: parsed again, with its line, after more input
                    self._begin = after + size + len(_END)
                    self._add(bytes(self._view[after : after + size]))
                    continue
                self._begin = after
                self._add(None)
                continue
            self._begin = after
            if kind == _INTEGER:
                self._add(_number(line))
            elif kind == _ARRAY:
                self._begin_array(_number(line))
            elif kind == _STATUS:
                self._add(line)
            elif kind == _ERROR:
                self._add(_error(line))
            else:
                raise InvalidResponse("unknown reply type")

    def _begin_large(self, size: int) -> bool:
        """Start a large value with the buffered bytes; return True if it is complete."""
        self._large = _new_buffer(None, size)
        self._rest = memoryview(self._large)
        buffered = min(size, self._end - self._begin)
        self._rest[:buffered] = self._view[self._begin : self._begin + buffered]
        self._begin += buffered
        if buffered == size:
            self._end_large()
            return True
        self._rest = self._rest[buffered:]
        return False

    def _begin_array(self, count: int) -> None:
        if count < 0:
            self._add(None)
        elif count == 0:
            self._add([])
        else:
            self._open.append(([], count))

    def _add(self, value: Any) -> None:
        """Add an element to the innermost array, or a reply; pass completed arrays outwards."""
        while self._open:
            elements, count = self._open[-1]
            elements.append(value)
            if len(elements) < count:
                return
            self._open.pop()
            value = elements
        self._on_reply(value)


def _error(line: bytes) -> Exception:
    error: Exception = BaseParser.parse_error(  # type: ignore[no-untyped-call]
        line.decode(errors="replace")
    )
    return error


def _number(line: bytes) -> int:
    try:
        return int(line)
    except ValueError:
        raise InvalidResponse("invalid number in a reply") from None
