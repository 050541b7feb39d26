"""Noticing a client that vanished or trickles while a chunk of it is open."""

from __future__ import annotations

import time

from sluice_core.errors import DeadlineExceeded


class StallClock:
    """Adds up the time for which a client was waited for since it last sent a fair amount.

    Only waiting for the client counts: neither the chunk store's time nor the ledger's. It costs
    a block two readings of the clock, and no timer.

    Args:
        window_seconds: a chunk is stalled when this much waiting ...
        least_bytes: ... brought fewer bytes than this,
        fair_bytes: ... and slow when it brought fewer than this.
    """

    __slots__ = (
        "_fair_bytes",
        "_got_bytes",
        "_lately_bytes",
        "_lately_seconds",
        "_least_bytes",
        "_since",
        "_waited_seconds",
        "_window_seconds",
    )

    def __init__(self, window_seconds: float, least_bytes: int, fair_bytes: int = 0) -> None:
        self._window_seconds = window_seconds
        self._least_bytes = least_bytes
        self._fair_bytes = fair_bytes
        self._since: float | None = None
        self.rest()

    def rest(self) -> None:
        """No chunk is open: the client owes nothing."""
        self._since = None
        self._waited_seconds = self._lately_seconds = 0.0
        self._got_bytes = self._lately_bytes = 0

    def waiting(self) -> None:
        """A block is asked for from now on."""
        self._since = time.monotonic()

    def received(self, size: int) -> None:
        """A block of this size came."""
        if self._since is not None:
            waited = time.monotonic() - self._since
            self._waited_seconds += waited
            self._lately_seconds += waited
            self._since = None
        self._got_bytes += size
        if self._got_bytes >= self._least_bytes:
            self._waited_seconds = 0.0
            self._got_bytes = 0
        self._lately_bytes += size
        if self._lately_bytes >= self._fair_bytes:
            self._lately_seconds = 0.0
            self._lately_bytes = 0

    def seconds_left(self) -> float:
        """Waiting that is still allowed; not positive means stalled."""
        return self._window_seconds - self._waited_seconds - self._waiting_seconds()

    def is_slow(self) -> bool:
        """The client has made others wait for a window and sent less than a fair amount in it."""
        return self._lately_seconds + self._waiting_seconds() >= self._window_seconds

    def _waiting_seconds(self) -> float:
        return 0.0 if self._since is None else time.monotonic() - self._since


def chunk_stalled(upload_id: str) -> DeadlineExceeded:
    """A chunk whose client stopped sending; what was acknowledged stays acknowledged."""
    return DeadlineExceeded(
        "CHUNK_STALLED",
        "The rest of the chunk did not arrive in time; send it again, in smaller blocks if the "
        "line is slow.",
        retry_after_seconds=0.0,
        metadata={"upload_id": upload_id} if upload_id else {},
    )


def answers_stalled() -> DeadlineExceeded:
    """A stream whose client does not read; what was acknowledged stays acknowledged."""
    return DeadlineExceeded(
        "ANSWERS_STALLED",
        "The stream's answers were not taken in time; read them while chunks are sent.",
        retry_after_seconds=0.0,
    )
