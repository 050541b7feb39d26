"""The transport of a connection, guarded against peers that do not read, or send too much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

STALL_SECONDS: Final = 20.0
MIN_BYTES: Final = 32 * 1024
"""A peer takes so many bytes, or all that are left, within this time: 13 kbit/s. It counts while
the buffer is full, and after the connection was closed."""
SLICE_BYTES: Final = 4 * 1024
"""What a parser is fed at once: 680 of the smallest frames, some milliseconds."""


# Size: half of its methods only pass on those of asyncio.Transport.
class GuardedTransport(asyncio.Transport):
    """The transport that protocols of uvicorn see.

    Every close of uvicorn is a `transport.close()`, which first waits for the peer to read what is
    buffered. Here that wait has a limit. What arrives is fed in slices, so that a read of 256 KiB
    does not keep the event loop for itself.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._written = 0
        self._taken = 0
        self._is_writable = True
        self._stall_timer: asyncio.TimerHandle | None = None
        self._is_paused = False
        self._is_held = False
        self._is_reading = True
        self._rest = b""
        self._feed: Callable[[bytes], None] | None = None
        self._next_slice: asyncio.Handle | None = None
        self.on_lost: Callable[[], None] | None = None
        """Called once at the end of the connection, whichever protocol it has then."""
        self.simple_bytes = 0
        """How many of the next bytes are one step of the parser, such as the rest of a body."""

    # -- writing and closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written += len(data)
        self._transport.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Close the connection when the peer has taken what is buffered, or takes no more."""
        self._transport.close()
        self._watch()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def writing_paused(self, *, hold_reading: bool) -> None:
        """Watch a peer for which too much is buffered.

        Args:
            hold_reading: read no more until the buffer has room, because the protocol answers by
                itself what it reads.
        """
        self._is_writable = False
        self._is_held = hold_reading
        self._update_reading()
        self._watch()

    def writing_resumed(self) -> None:
        self._is_writable = True
        self._is_held = False
        self._continue_feeding()
        self._update_reading()

    def lost(self) -> None:
        """Forget what has arrived, and stop the timers: the connection has ended."""
        self._rest, self._feed = b"", None
        if self.on_lost is not None:
            self.on_lost()
            self.on_lost = None
        for handle in (self._next_slice, self._stall_timer):
            if handle is not None:
                handle.cancel()

    def _watch(self) -> None:
        if self._stall_timer is None:
            self._taken = self._written - self._transport.get_write_buffer_size()
            self._stall_timer = self._loop.call_later(STALL_SECONDS, self._check)

    def _check(self) -> None:
        self._stall_timer = None
        if self._is_writable and not self._transport.is_closing():
            return
        taken = self._written - self._transport.get_write_buffer_size()
        if taken - self._taken < MIN_BYTES:
            self._transport.abort()
        else:
            self._watch()

    # -- reading

    def feed(self, data: bytes, feed: Callable[[bytes], None]) -> None:
        """Feed what has arrived to a parser, in slices with other work between them."""
        if not self._rest and len(data) <= max(SLICE_BYTES, self.simple_bytes):
            feed(data)
            return
        self._rest += data
        self._feed = feed
        self._feed_slice()

    def _feed_slice(self) -> None:
        self._next_slice = None
        if self._feed is None or self.is_closing():
            self._rest = b""
            return
        size = max(SLICE_BYTES, self.simple_bytes)
        data, self._rest = self._rest[:size], self._rest[size:]
        self._feed(data)
        self._continue_feeding()
        self._update_reading()

    def _continue_feeding(self) -> None:
        if self._rest and self._next_slice is None and not (self._is_paused or self._is_held):
            self._next_slice = self._loop.call_soon(self._feed_slice)

    def discard_rest(self) -> None:
        """Drop what was read and not yet fed."""
        self._rest = b""
        self._update_reading()

    def pause_reading(self) -> None:
        self._is_paused = True
        self._update_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        self._continue_feeding()
        self._update_reading()

    def is_reading(self) -> bool:
        return self._is_reading

    def _update_reading(self) -> None:
        should_read = not (self._is_paused or self._is_held or self._rest)
        if should_read == self._is_reading or self.is_closing():
            return
        self._is_reading = should_read
        if should_read:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # -- the rest is passed on

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def write_eof(self) -> None:
        self._transport.write_eof()
