"""Bounds what lies in gRPC of messages that have begun and not ended (rule 11).

gRPC hands over whole messages only. Until one is whole its bytes are in gRPC's memory, up to the
limit of the server, 32 MiB, whatever the method: neither how many nor of which call can be asked.
What can be known is how many bytes the kernel received on a connection and how many of them were
handed over as messages. The rest is unread, or part of unfinished messages.

So every read that waits is noted here, and a watch that runs while any does ends those

- that wait for the first message of a call longer than they may, and
- of a connection that has sent more of unfinished messages than its calls can explain.

A client that is busy or fast is hardly looked at: its reads end within a tick of the watch, or
within its turn when a busy server has many streams to serve. ADR 0018 has the bounds.
"""

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
"""So much growth of the process makes the watch count what connections have received ..."""
_COUNT_SECONDS: Final = 1.0
"""... and otherwise it does so this often: memory that was freed is used again without growth."""
_READ_AHEAD_BYTES: Final = 1 * MIB
"""What gRPC adds to the window of a stream while a message of it is read."""
_DROPPED_BYTES: Final = 32 * MIB
"""What ended calls may have left unread, at most: a client can end any number of them."""
_OVERHEAD_SHARE: Final = 64
"""Frames and TLS records add at most a 64th to messages: 9 bytes to a frame of 16 KiB, 22 and more
to a record. On a connection that always has a read waiting they add up."""
_CALL_BYTES: Final = 1024
"""Headers of a call, a token included."""
_TURN_SECONDS: Final = 10.0
"""How long the read of a stream may wait for its turn while its window is full of whole messages:
a thousand streams at blocks of 1 MiB take 2.5 s for a round, and more on a busy machine."""
_LARGE_BYTES: Final = 8 * MIB
"""Messages above this have permits of their own (UploadChunk) and count against those alone."""


class PendingRead(NamedTuple):
    """A read that waits for a message."""

    since: float
    deadline: float
    """In the loop's time; infinite for a read that may wait."""
    max_bytes: int
    of_stream: bool
    """Whether others may follow its message, sent ahead into the window of the call."""

    def waits_for_its_turn(self, now: float) -> bool:
        """Whether what has come of its call may be whole messages that the loop has not got to."""
        return self.of_stream and now - self.since < _TURN_SECONDS


class Connection:
    """What is known of one connection while calls of it are open.

    Its bytes are counted from a moment at which no read of it was waiting, so that all bytes of
    unfinished messages have come since.
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
        """Since the baseline: what they had not read was dropped, and is in no count."""
        self.delivered_bytes = 0
        """Of the messages that gRPC handed over, as they were on the wire."""
        self.pending: dict[asyncio.Future[Any], PendingRead] = {}
        self.baseline: int | None = None
        """Received and not delivered when no read was waiting; None if it is not known."""
        self.is_stale = True
        self._received = received
        self._delivered_before_bytes = 0

    def begin_read(self, max_bytes: int, seconds: float, *, of_stream: bool) -> PendingRead:
        """What to note of a read that begins to wait now."""
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
        """Bytes that came since the baseline and that no message accounts for.

        Returns:
            Those beyond what streams that nobody reads, or that wait for their turn, may have in
            their windows; and of these the ones beyond what honest messages in the making come to.
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


class HalfReceived:
    """The unfinished messages of one server.

    Args:
        options: bounds.
        received: what the kernel counts; its own in tests.
        memory: the memory of this process, in bytes.
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
        """A call of this peer begins; `leave` follows."""
        connection = self._connections.get(peer)
        if connection is None:
            connection = self._connections[peer] = Connection(peer, self._received)
        connection.open_calls += 1
        if self._timer is None:
            self._arm()
        return connection

    def leave(self, connection: Connection) -> None:
        """The call has ended, and gRPC has dropped what it had of it."""
        # It is forgotten by a tick: most connections have their next call before that.
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
        """End what has sent too much: a connection beyond its own bound, then the worst ones."""
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
    """End the reads that wait: one of them has an endless message, which one cannot be seen."""
    for outcome, read in connection.pending.items():
        if read.since <= now - TICK_SECONDS:
            _end(outcome, _unfinished_messages())
    connection.is_stale = True


def _end(outcome: asyncio.Future[Any], error: SluiceError) -> None:
    if not outcome.done():
        outcome.set_exception(error)


def _message_stalled() -> DeadlineExceeded:
    return DeadlineExceeded(
        "MESSAGE_STALLED",
        "The first message of the call did not arrive in time; open a call when its message is "
        "ready to be sent.",
        retry_after_seconds=0.0,
    )


def _unfinished_messages() -> ResourceExhausted:
    return ResourceExhausted(
        "UNFINISHED_MESSAGES",
        "The connection has sent more of unfinished messages than the server keeps; finish one "
        "message before you begin the next, and keep to the limits that GetLimits names.",
        retry_after_seconds=1.0,
    )
