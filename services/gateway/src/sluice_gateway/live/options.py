"""The options of live updates: limits, waits and bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluice_core.rates.model import SECOND_US, Rate

_FRAMES: Final = Rate(20, SECOND_US, burst=100)


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """The configuration of live updates, besides their dependencies.

    A session is a WebSocket or an event stream. All limits are those of one replica. Memory of a
    session: its cursors, one batch of updates, and what the socket has not taken yet (64 KiB).
    """

    max_sessions: int = 20_000
    max_sessions_per_user: int = 20
    """Tabs and devices of one person."""
    max_subscriptions: int = 50
    """Of one session."""
    frames: Rate = _FRAMES
    """What a client may send: a WebSocket message counts as one frame at least."""
    connect_seconds: float = 10.0
    """Time from the handshake to the CONNECT frame, so that idle sockets need credentials."""
    heart_beat_ms: int = 10_000
    """Offered in both directions; 0 switches heart-beats off."""
    heart_beat_tolerance: float = 2.0
    """A peer is gone after this many intervals without a byte: timers and networks are late."""
    write_seconds: float = 10.0
    """A subscriber that takes nothing for so long is dropped."""
    linger_seconds: float = 5.0
    """Time for a dropped subscriber to take the close frame."""
    token_warning_seconds: float = 60.0
    """Time from the warning to the end of the token."""
    clock_check_seconds: float = 60.0
    """Longest time between two readings of the clock: it may be set, and machines sleep."""
    restart_spread_seconds: float = 10.0
    """Sessions that a stopping replica ends come back spread over this time."""
    keep_alive_seconds: float = 15.0
    """Between comments of a quiet event stream; below the idle limits of usual proxies."""
    retry_ms: int = 2_000
    """After which an event stream that was cut comes back."""
    catalogue_reads: int = 3
    """Of all sessions at once. When thousands of clients come back together, the others wait for
    their turns here: in the queue for a database connection they would time out, and requests with
    them. Below the smallest number of connections, the four of SQLite."""
    batch_updates: int = 100
    """Updates that are read at once: newer states replace those that a slow reader has not read."""
