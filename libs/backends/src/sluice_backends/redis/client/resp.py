"""The words that Redis speaks (RESP2), with as few copies of large values as Python allows.

Own code, because this is the way of every byte: redis-py copies a block four times on its way in
(ADR 0013). A large value is sent from the memory that it is in, and received straight into the
memory that it is handed over in.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis._parsers.base import BaseParser
from redis.exceptions import InvalidResponse

Argument = bytes | bytearray | memoryview | str | int | float
Command = Sequence[Argument]

LARGE_BYTES: Final = 8 * 1024
"""From here on a value travels by itself; smaller ones are put together with what is around."""

_GATHER_BYTES: Final = 2 * LARGE_BYTES
"""What is read when it is not known what comes. A smaller value always fits in."""

_END: Final = b"\r\n"
_STATUS, _ERROR, _INTEGER, _BULK, _ARRAY = b"+-:$*"

# An official part of CPython's interface: a bytearray whose content is not set. Zeroing a buffer
# that is about to be received into costs as much as a copy.
_new_buffer = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new_buffer.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
_new_buffer.restype = ctypes.py_object


def encode(commands: Sequence[Command]) -> list[bytes | bytearray | memoryview]:
    """What to write, in order; large arguments as they were given."""
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
    """Makes replies out of bytes. Fill `room()` from the socket, then tell how much with `filled`.

    Replies are bytes, int, None, lists of them, and exceptions for error replies. A value of
    LARGE_BYTES or more is a bytearray of its own, which nobody else knows.

    Args:
        on_reply: called with each reply that is whole.
    """

    def __init__(self, on_reply: Callable[[Any], None]) -> None:
        self._on_reply = on_reply
        self._gathered = bytearray(_GATHER_BYTES)
        self._view = memoryview(self._gathered)
        self._begin = self._end = 0
        self._large: bytearray | None = None
        self._rest = memoryview(b"")
        """What is still to be filled of the large value."""
        self._skip = 0
        """Of the end of a line that follows a large value."""
        self._open: list[tuple[list[Any], int]] = []
        """Arrays that are not whole, the innermost last, and how many elements each will have."""

    def room(self) -> memoryview:
        """Where the next bytes go; never empty."""
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
        """So many bytes were written to the beginning of `room()`.

        Raises `InvalidResponse` for what is no reply.
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
        gathered = self._gathered
        while True:
            if self._skip:
                skipped = min(self._skip, self._end - self._begin)
                self._begin += skipped
                self._skip -= skipped
            end = gathered.find(_END, self._begin, self._end)
            if end < 0:
                if self._end - self._begin == _GATHER_BYTES:
                    raise InvalidResponse("a line of the reply is too long")
                return
            kind, line = gathered[self._begin], bytes(self._view[self._begin + 1 : end])
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
                        return  # with its line, again when it is whole
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
                raise InvalidResponse("the reply is none of Redis's")

    def _begin_large(self, size: int) -> bool:
        """Take what has come of it; whether that is all."""
        self._large = _new_buffer(None, size)
        self._rest = memoryview(self._large)
        here = min(size, self._end - self._begin)
        self._rest[:here] = self._view[self._begin : self._begin + here]
        self._begin += here
        if here == size:
            self._end_large()
            return True
        self._rest = self._rest[here:]
        return False

    def _begin_array(self, count: int) -> None:
        if count < 0:
            self._add(None)
        elif count == 0:
            self._add([])
        else:
            self._open.append(([], count))

    def _add(self, value: Any) -> None:
        """An element of the innermost array, or a reply; what it makes whole goes outwards."""
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
        raise InvalidResponse("a number of the reply is none") from None
