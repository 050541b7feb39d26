"""Detection of clients that vanish or trickle while one of their chunks is open."""

from __future__ import annotations

import time

from sluice_core.errors import DeadlineExceeded


class StallClock:
    """The time spent waiting for a client since it last sent a fair amount.

    Only waiting for the client counts, not the time of the chunk store or the ledger. The cost
    is two clock readings per block, and no timer.

    Args:
        window_seconds: the waiting time after which a chunk is judged.
        least_bytes: a chunk is stalled when the window brought fewer bytes than this.
        fair_bytes: a chunk is slow when the window brought fewer bytes than this.
    """

    __slots__ = (
        "_fair_bytes",
        "_fair_received_bytes",
        "_fair_waited_seconds",
        "_least_bytes",
        "_received_bytes",
        "_waited_seconds",
        "_waiting_since",
        "_window_seconds",
    )

    def __init__(self, window_seconds: float, least_bytes: int, fair_bytes: int = 0) -> None:
        self._window_seconds = window_seconds
        self._least_bytes = least_bytes
        self._fair_bytes = fair_bytes
        self._waiting_since: float | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all waiting: no chunk is open."""
        self._waiting_since = None
        self._waited_seconds = self._fair_waited_seconds = 0.0
        self._received_bytes = self._fair_received_bytes = 0

    def start_waiting(self) -> None:
        """Start waiting for the next block."""
        self._waiting_since = time.monotonic()

    def received(self, size: int) -> None:
        """Record a block of `size` bytes and stop waiting."""
        if self._waiting_since is not None:
            waited = time.monotonic() - self._waiting_since
            self._waited_seconds += waited
            self._fair_waited_seconds += waited
            self._waiting_since = None
        self._received_bytes += size
        if self._received_bytes >= self._least_bytes:
            self._waited_seconds = 0.0
            self._received_bytes = 0
        self._fair_received_bytes += size
        if self._fair_received_bytes >= self._fair_bytes:
            self._fair_waited_seconds = 0.0
            self._fair_received_bytes = 0

    def seconds_left(self) -> float:
        """Return the waiting time that is still allowed; zero or less means stalled."""
        return self._window_seconds - self._waited_seconds - self._waiting_seconds()

    def is_slow(self) -> bool:
        """Return whether a whole window of waiting brought less than the fair amount."""
        return self._fair_waited_seconds + self._waiting_seconds() >= self._window_seconds

    def _waiting_seconds(self) -> float:
        return 0.0 if self._waiting_since is None else time.monotonic() - self._waiting_since


def chunk_stalled(upload_id: str) -> DeadlineExceeded:
    """Return the error of a chunk whose client stopped sending. Acknowledged chunks stay."""
    return DeadlineExceeded(
        "CHUNK_STALLED",
        "The rest of the chunk did not arrive in time; send it again, in smaller blocks if the "
        "line is slow.",
        retry_after_seconds=0.0,
        metadata={"upload_id": upload_id} if upload_id else {},
    )


def answers_stalled() -> DeadlineExceeded:
    """Return the error of a stream whose client does not read. Acknowledged chunks stay."""
    return DeadlineExceeded(
        "ANSWERS_STALLED",
        "The stream's answers were not taken in time; read them while chunks are sent.",
        retry_after_seconds=0.0,
    )
