"""Heart-beats: what two peers agree on, and when the next is due or missing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sluice_gateway.live.stomp.frames import FrameError

_HEADER: Final = re.compile(r"([0-9]{1,9}),([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class HeartBeats:
    """Intervals in seconds; None: no heart-beats in this direction."""

    send_seconds: float | None
    receive_seconds: float | None


def negotiate(client: str | None, server_ms: int) -> HeartBeats:
    """Return the intervals for the client's `heart-beat` header and the server's offer.

    The header says how often the client can send, and how often it wants to receive. The server
    offers the same interval both ways. In each direction the larger one counts, and 0 on either
    side means none (STOMP 1.2, "Heart-beating"). Raise `FrameError` if it is no such header.
    """
    if client is None:
        return HeartBeats(None, None)
    found = _HEADER.fullmatch(client)
    if found is None:
        raise FrameError("BAD_FRAME", "Not a STOMP 1.2 frame: heart-beat is not two numbers.")
    client_sends_ms, client_wants_ms = int(found[1]), int(found[2])
    return HeartBeats(
        send_seconds=_agreed(server_ms, client_wants_ms),
        receive_seconds=_agreed(client_sends_ms, server_ms),
    )


def _agreed(sender_ms: int, receiver_ms: int) -> float | None:
    return max(sender_ms, receiver_ms) / 1000 if sender_ms and receiver_ms else None
