"""Parser of STOMP 1.2 frames: strict, incremental, bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sluice_gateway.live.stomp.frames import (
    COMMANDS,
    MAX_FRAME_BYTES,
    UNESCAPED,
    WITH_BODY,
    Frame,
    FrameError,
)

_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_ESCAPE: Final = re.compile(r"\\(.?)", re.DOTALL)
_UNESCAPED: Final = {"r": "\r", "n": "\n", "c": ":", "\\": "\\"}
_DIGITS: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class _Head:
    command: str
    headers: tuple[tuple[str, str], ...]
    body_bytes: int | None
    """Of the content-length; None: the body ends at the first NUL."""
    size: int


class FrameParser:
    """Turns bytes into frames, however the bytes are cut.

    Strict, because a lenient parser guesses where a frame ends, and a wrong guess lets one client's
    text become another frame: unknown commands, undefined escapes, a colon or CR in a header, a
    body where none may be, and a wrong content-length are errors. Line ends between frames are
    heart-beats and are skipped.

    Holds at most `max_frame_bytes` and what was fed last. After an error it is of no more use.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._scanned = 0
        """Bytes of the buffer that have no end of the current section. Each byte is scanned once,
        so that single bytes cost no more than a whole frame."""

    def feed(self, data: bytes) -> None:
        """Add bytes; `next_frame` returns what they complete."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """Return the next whole frame, None if more bytes are needed. Raise `FrameError`."""
        if self._head is None:
            self._skip_line_ends()
            self._head = self._read_head()
        if self._head is None:
            return None
        body = self._read_body(self._head)
        if body is None:
            return None
        if body and self._head.command not in WITH_BODY:
            raise _bad(f"{self._head.command} has no body")
        frame = Frame(self._head.command, self._head.headers, body)
        self._head = None
        return frame

    def _skip_line_ends(self) -> None:
        start, size = 0, len(self._buffer)
        while start < size:
            if self._buffer[start] == 0x0A:
                start += 1
            elif self._buffer.startswith(b"\r\n", start):
                start += 2
            else:
                break
        if start:
            del self._buffer[:start]
            self._scanned = 0

    def _read_head(self) -> _Head | None:
        """Read the command and the headers up to the empty line; leave the body in the buffer."""
        buffer = self._buffer
        end = _END_OF_HEAD.search(buffer, max(0, self._scanned - 2))
        stop = len(buffer) if end is None else end.end()
        if buffer.find(0, self._scanned, stop) >= 0:
            raise _bad("a frame ends before the empty line after its headers")
        self._scanned = stop
        if stop > self._max_bytes:
            raise _too_large(self._max_bytes)
        if end is None:
            return None
        try:
            text = buffer[: end.start()].decode()
        except UnicodeDecodeError:
            raise _bad("the headers are not UTF-8") from None
        command, *lines = (line.removesuffix("\r") for line in text.split("\n"))
        if command not in COMMANDS:
            raise _bad("the command is unknown")
        headers = [_parse_header(line, escaped=command not in UNESCAPED) for line in lines]
        head = _Head(
            command,
            tuple((name, value) for name, value in headers if name != "content-length"),
            _content_length([value for name, value in headers if name == "content-length"]),
            stop,
        )
        del buffer[:stop]
        self._scanned = 0
        return head

    def _read_body(self, head: _Head) -> bytes | None:
        """Read the body and its NUL."""
        buffer = self._buffer
        if head.body_bytes is None:
            size = buffer.find(0, self._scanned)
            self._scanned = len(buffer)
        else:
            size = head.body_bytes if len(buffer) > head.body_bytes else -1
        known = head.body_bytes or 0 if size < 0 else size
        if head.size + max(known, len(buffer) if size < 0 else 0) + 1 > self._max_bytes:
            raise _too_large(self._max_bytes)
        if size < 0:
            return None
        if buffer[size] != 0:
            raise _bad("the content-length does not lead to the NUL at the frame's end")
        body = bytes(buffer[:size])
        del buffer[: size + 1]
        self._scanned = 0
        return body


def _parse_header(line: str, *, escaped: bool) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name:
        raise _bad("a header has no name or no colon")
    if "\r" in line:
        raise _bad("a header holds a CR")
    if not escaped:
        return name, value
    if ":" in value:
        raise _bad("a header's value holds a colon; write it as \\c")
    return _unescape(name), _unescape(value)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_replacement, text)


def _replacement(escape: re.Match[str]) -> str:
    replacement = _UNESCAPED.get(escape[1])
    if replacement is None:
        raise _bad("a header holds an undefined escape; use \\r, \\n, \\c or \\\\")
    return replacement


def _content_length(values: list[str]) -> int | None:
    if not values:
        return None
    # The first of repeated headers counts, but two lengths are how frames are smuggled.
    if len(set(values)) > 1 or _DIGITS.fullmatch(values[0]) is None:
        raise _bad("the content-length is not one number")
    return int(values[0])


def _bad(problem: str) -> FrameError:
    return FrameError("BAD_FRAME", f"Not a STOMP 1.2 frame: {problem}.")


def _too_large(max_bytes: int) -> FrameError:
    return FrameError(
        "FRAME_TOO_LARGE", f"The frame has more than {max_bytes} bytes; send smaller frames."
    )
