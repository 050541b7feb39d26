"""What a client may send: a token bucket of frames."""

from __future__ import annotations

from sluice_core.rates.model import SECOND_US, Rate
from sluice_core.rates.token_bucket import Level, refill, wait_us
from sluice_gateway.live.clocks import Instant


class FrameAllowance:
    """Counts messages of the WebSocket, and frames beyond the first of a message.

    Messages without a frame count, because reading them is work too: heart-beats, line ends, and
    pieces of a frame.
    """

    def __init__(self, rate: Rate, now: Instant) -> None:
        self._rate = rate
        self._level = refill(rate, None, _microseconds(now))
        self._is_first_frame = False

    def take_message(self, now: Instant) -> bool:
        """Return False if the client sends too fast."""
        self._is_first_frame = True
        return self._take(now)

    def take_frame(self, now: Instant) -> bool:
        """Return False if the client sends too fast."""
        if self._is_first_frame:
            self._is_first_frame = False
            return True
        return self._take(now)

    def _take(self, now: Instant) -> bool:
        self._level = refill(self._rate, self._level, _microseconds(now))
        if wait_us(self._rate, self._level, 1) > 0:
            return False
        self._level = Level(self._level.content - self._rate.period_us, self._level.at_us)
        return True


def _microseconds(now: Instant) -> int:
    return int(now.monotonic * SECOND_US)
