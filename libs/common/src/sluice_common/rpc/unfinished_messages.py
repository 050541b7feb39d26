"""Memory bound for partially received messages inside gRPC (rule 11, ADR 0018)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from sluice_common.rpc.sockets import ReceivedBytes, resident_bytes
from sluice_common.settings.rpc_options import ServerOptions
from sluice_core.errors import DeadlineExceeded, ResourceExhausted, SluiceError
from sluice_core.uploads.model import MIB

TICK_SECONDS: Final = 0.1
_GROWTH_BYTES: Final = 8 * MIB
"""Growth of the process that triggers a count of the received bytes …"""
_COUNT_SECONDS: Final = 1.0
"""… and the interval otherwise: freed memory is reused without growth."""
_READ_AHEAD_BYTES: Final = 1 * MIB
"""Addition of gRPC to the window of a stream while a message is read."""
_DROPPED_BYTES: Final = 32 * MIB
"""Limit of unread bytes of ended calls: a client can end any number of calls."""
_OVERHEAD_SHARE: Final = 64
"""HTTP/2 frames and TLS records add at most 1/64: 9 bytes per frame of 16 KiB, 22 and more per
record. They accumulate on a connection that always has a pending read."""
_CALL_BYTES: Final = 1024
"""Headers of a call, including a token."""
_TURN_SECONDS: Final = 10.0
"""How long the read of a stream may wait for its turn while its window holds whole messages: one
round over a thousand streams with blocks of 1 MiB takes 2.5 s, and longer under load."""
_LARGE_BYTES: Final = 8 * MIB
"""Larger messages (UploadChunk) have separate permits and count only against those."""


class PendingRead(NamedTuple):
    """A read that awaits a message."""

    since: float
    deadline: float
    """In loop time; infinite for a read without a deadline."""
    max_bytes: int
    of_stream: bool
    """Whether further messages may follow, sent ahead into the window of the call."""

    def waits_for_its_turn(self, now: float) -> bool:
        """Return whether the bytes of its call may be whole messages not yet read by the loop."""
        return self.of_stream and now - self.since < _TURN_SECONDS


class Connection:
    """State of one connection with open calls.

    Its bytes are counted from a moment without pending reads, so that all bytes of unfinished
    messages have arrived since.
    """

    __slots__ = (
        "_delivered_before_bytes",
        "_received",
        "baseline",
        "delivered_bytes",
        "ended_calls",
        "is_stale",
        "open_calls",
        "peer",
        "pending",
    )

    def __init__(self, peer: str, received: ReceivedBytes) -> None:
        self.peer = peer
        self.open_calls = 0
        self.ended_calls = 0
        """Since the baseline. gRPC drops their unread bytes, which no count includes."""
        self.delivered_bytes = 0
        """Wire size of the messages that gRPC delivered."""
        self.pending: dict[asyncio.Future[Any], PendingRead] = {}
        self.baseline: int | None = None
        """Received but undelivered bytes when no read was pending; None if unknown."""
        self.is_stale = True
        self._received = received
        self._delivered_before_bytes = 0

    def begin_read(self, max_bytes: int, seconds: float, *, of_stream: bool) -> PendingRead:
        """Return the record of a read that starts now."""
        if self.is_stale and not self.pending:
            self._rebase()
        now = asyncio.get_running_loop().time()
        return PendingRead(now, now + seconds, max_bytes, of_stream)

    def _rebase(self) -> None:
        received_bytes = self._received.of((self.peer,)).get(self.peer)
        self.baseline = None if received_bytes is None else received_bytes - self.delivered_bytes
        self._delivered_before_bytes = self.delivered_bytes
        self.is_stale = False
        self.ended_calls = 0

    def unexplained_bytes(
        self, received_bytes: int, window_bytes: int, now: float
    ) -> tuple[int, int]:
        """Return the bytes since the baseline that no message accounts for.

        Returns:
            The bytes above the windows of streams without a pending read or waiting for their
            turn; and the part of them above the size limits of the pending messages.
        """
        if self.baseline is None:
            self.baseline = received_bytes - self.delivered_bytes
            self._delivered_before_bytes = self.delivered_bytes
        limits = [
            read.max_bytes for read in self.pending.values() if not read.waits_for_its_turn(now)
        ]
        unread_bytes = window_bytes + _READ_AHEAD_BYTES
        overhead_bytes = (
            self.delivered_bytes - self._delivered_before_bytes
        ) // _OVERHEAD_SHARE + self.ended_calls * _CALL_BYTES
        unfinished = (
            received_bytes
            - self.delivered_bytes
            - self.baseline
            - overhead_bytes
            - max(self.open_calls - len(limits), 0) * unread_bytes
            - min(self.ended_calls * unread_bytes, _DROPPED_BYTES)
            - sum(limit for limit in limits if limit > _LARGE_BYTES)
        )
        excess = unfinished - sum(limit for limit in limits if limit <= _LARGE_BYTES)
        return max(unfinished, 0), max(excess, 0)


class UnfinishedMessages:
    """Bounds the unfinished messages of one server.

    gRPC delivers whole messages only. Until then their bytes are in gRPC's memory, up to the
    server-wide limit of 32 MiB per message, and gRPC exposes neither their number nor their call.
    Known are the bytes that the kernel received on a connection and those delivered as messages;
    the rest is unread, or part of unfinished messages. So every pending read is recorded, and a
    periodic check ends those

    - that wait for the first message of a call longer than allowed, and
    - of a connection that has sent more unfinished bytes than its calls can explain.

    A fast client is rarely checked: its reads end within a tick, or within a turn of a busy
    server. ADR 0018 has the bounds.

    Args:
        options: limits.
        received: received bytes per connection, from the kernel by default.
        memory: returns the memory of this process in bytes.
    """

    def __init__(
        self,
        options: ServerOptions,
        received: ReceivedBytes | None = None,
        memory: Callable[[], int] = resident_bytes,
    ) -> None:
        self._options = options
        self._received = received or ReceivedBytes()
        self._memory = memory
        self._memory_bytes = memory()
        self._next_count = 0.0
        self._connections: dict[str, Connection] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, peer: str) -> Connection:
        """Record the start of a call of this peer; `leave` follows."""
        connection = self._connections.get(peer)
        if connection is None:
            connection = self._connections[peer] = Connection(peer, self._received)
        connection.open_calls += 1
        if self._timer is None:
            self._arm()
        return connection

    def leave(self, connection: Connection) -> None:
        """Record the end of a call, whose unread bytes gRPC has dropped."""
        # A tick deletes the connection, because most start another call before it.
        connection.open_calls -= 1
        connection.ended_calls += 1

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK_SECONDS, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if not self._connections:
            return
        self._arm()
        now = loop.time()
        slow: list[Connection] = []
        for connection in tuple(self._connections.values()):
            if connection.open_calls == 0:
                del self._connections[connection.peer]
                continue
            oldest = math.inf
            for outcome, read in connection.pending.items():
                oldest = min(oldest, read.since)
                if read.deadline <= now:
                    _end(outcome, _message_stalled())
            if oldest <= now - TICK_SECONDS:
                slow.append(connection)
            else:
                connection.is_stale = True
        self._watch(slow, now)

    def _watch(self, slow: list[Connection], now: float) -> None:
        memory_bytes = self._memory()
        is_due = now >= self._next_count or memory_bytes - self._memory_bytes >= _GROWTH_BYTES
        if is_due or memory_bytes < self._memory_bytes:
            self._memory_bytes = memory_bytes
        if is_due and slow:
            self._next_count = now + _COUNT_SECONDS
            received = self._received.of(connection.peer for connection in slow)
            self._bound([c for c in slow if c.peer in received], received, now)

    def _bound(self, slow: list[Connection], received: Mapping[str, int], now: float) -> None:
        """End the reads of connections above their limit, then of the largest ones."""
        options = self._options
        unfinished: list[tuple[int, Connection]] = []
        for connection in slow:
            bytes_of_it, excess = connection.unexplained_bytes(
                received[connection.peer], options.stream_window_bytes, now
            )
            if excess > options.unfinished_connection_bytes:
                _end_all(connection, now)
            else:
                unfinished.append((bytes_of_it, connection))
        unfinished.sort(key=lambda entry: entry[0], reverse=True)
        total = sum(bytes_of_it for bytes_of_it, _ in unfinished)
        for bytes_of_it, connection in unfinished:
            if total <= options.unfinished_bytes:
                return
            _end_all(connection, now)
            total -= bytes_of_it


def _end_all(connection: Connection, now: float) -> None:
    """End all pending reads: one has an endless message, but gRPC does not show which."""
    for outcome, read in connection.pending.items():
        if read.since <= now - TICK_SECONDS:
            _end(outcome, _unfinished_messages())
    connection.is_stale = True


def _end(outcome: asyncio.Future[Any], error: SluiceError) -> None:
    if not outcome.done():
        outcome.set_exception(error)


def _message_stalled() -> DeadlineExceeded:
    """Return the error for a first message that does not arrive."""
    return DeadlineExceeded(
        "MESSAGE_STALLED",
        "The first message of the call did not arrive in time; open a call when its message is "
        "ready.",
        retry_after_seconds=0.0,
    )


def _unfinished_messages() -> ResourceExhausted:
    """Return the error for too many unfinished bytes."""
    return ResourceExhausted(
        "UNFINISHED_MESSAGES",
        "The connection has sent too many bytes of unfinished messages; finish one message before "
        "you start the next, and keep to the limits that GetLimits returns.",
        retry_after_seconds=1.0,
    )
