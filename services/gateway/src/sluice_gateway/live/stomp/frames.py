"""STOMP 1.2 frames: what they may hold, and their bytes (https://stomp.github.io/)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluice_core.errors import InvalidArgument

MAX_FRAME_BYTES: Final = 16 * 1024
"""Largest frame, from the command to the NUL included."""

CLIENT_COMMANDS: Final = frozenset(
    {"CONNECT", "STOMP", "SEND", "SUBSCRIBE", "UNSUBSCRIBE", "BEGIN", "COMMIT", "ABORT", "ACK"}
    | {"NACK", "DISCONNECT"}
)
SERVER_COMMANDS: Final = frozenset({"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"})
COMMANDS: Final = CLIENT_COMMANDS | SERVER_COMMANDS
WITH_BODY: Final = frozenset({"SEND", "MESSAGE", "ERROR"})
"""The only commands whose frames may have a body."""

UNESCAPED: Final = frozenset({"CONNECT", "CONNECTED"})
"""Their headers are not escaped, for STOMP 1.0's sake."""

_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c"})


class FrameError(InvalidArgument):
    """Bytes that are not a frame, or one that is too large. Nothing after them can be read."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame. `content-length` is not among its headers: the bytes carry it, the body has it.

    Args:
        headers: names and values in order; of a repeated name the first counts.
    """

    command: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the first header of this name."""
        return next((value for key, value in self.headers if key == name), None)


def encode_frame(frame: Frame) -> bytes:
    """Return the bytes of a frame.

    Raise `ValueError` for a frame that no receiver could read: an unknown command, a body where
    none may be, a header that cannot be written, or too many bytes.
    """
    if frame.command not in COMMANDS:
        raise ValueError(f"no command of STOMP: {frame.command}")
    if frame.body and frame.command not in WITH_BODY:
        raise ValueError(f"{frame.command} has no body")
    lines = [frame.command]
    lines += [_header_line(frame.command, name, value) for name, value in frame.headers]
    if frame.command in WITH_BODY:
        lines.append(f"content-length:{len(frame.body)}")
    encoded = b"\n".join([*(line.encode() for line in lines), b"", frame.body]) + b"\0"
    if len(encoded) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(encoded)} bytes, at most {MAX_FRAME_BYTES}")
    return encoded


def _header_line(command: str, name: str, value: str) -> str:
    if not name or name == "content-length":
        raise ValueError(f"no header of a frame: {name!r}")
    if "\0" in name or "\0" in value:
        raise ValueError("a header cannot hold NUL")
    if command not in UNESCAPED:
        return f"{name.translate(_ESCAPES)}:{value.translate(_ESCAPES)}"
    if ":" in name or any(end in text for end in "\r\n" for text in (name, value)):
        raise ValueError(f"{command} cannot escape a header")
    return f"{name}:{value}"
