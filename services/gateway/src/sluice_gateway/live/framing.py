"""How the frames of a session become messages of a WebSocket: as they are, or as SockJS wants."""

from __future__ import annotations

import json
from typing import Final, Protocol

from sluice_gateway.live.stomp.closing import Close
from sluice_gateway.live.stomp.frames import FrameError


class Framing(Protocol):
    """Conversion of messages."""

    @property
    def opening(self) -> str:
        """The first message after the handshake; empty if there is none."""
        ...

    def encode(self, frame: bytes) -> str:
        """Return the message of a frame."""
        ...

    def decode(self, message: str | bytes) -> list[bytes]:
        """Return the bytes that a client has sent. Raise `FrameError`."""
        ...

    def closing(self, close: Close) -> str:
        """Return the message before the close frame; empty if there is none."""
        ...


class PlainFraming:
    """A frame is a message."""

    opening = ""

    def encode(self, frame: bytes) -> str:
        return frame.decode()

    def decode(self, message: str | bytes) -> list[bytes]:
        return [message.encode() if isinstance(message, str) else message]

    def closing(self, close: Close) -> str:
        return ""


class SockJsFraming:
    """The frames of SockJS 0.3.3: `o`, `a[…]` and `c[…]`; clients send arrays of strings.

    No `h` frames: the pings of the WebSocket keep proxies from closing it.
    """

    opening = "o"

    def encode(self, frame: bytes) -> str:
        # ASCII: some browsers' scripts mangle characters that JSON may hold.
        return f"a{json.dumps([frame.decode()], separators=(',', ':'))}"

    def decode(self, message: str | bytes) -> list[bytes]:
        if not message:
            return []  # sockjs-client sends one; the protocol ignores it
        try:
            texts = json.loads(message)
            if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
                return [text.encode() for text in texts]
        except (ValueError, RecursionError):
            pass  # no JSON, JSON that is too deep, or text that is no Unicode
        raise FrameError("BAD_FRAME", "Not a message of SockJS: send a JSON array of strings.")

    def closing(self, close: Close) -> str:
        return f"c{json.dumps([int(close.code), close.reason], separators=(',', ':'))}"


PLAIN: Final = PlainFraming()
SOCKJS: Final = SockJsFraming()
