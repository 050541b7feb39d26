"""How a session ends: close codes of the WebSocket, and what each tells the client to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from sluice_core.errors import SluiceError

_MAX_REASON_BYTES: Final = 123  # RFC 6455, section 5.5


class CloseCode(IntEnum):
    """Close codes (RFC 6455, section 7.4.1 and the registry of IANA; 4000-4999 are ours)."""

    NORMAL = 1000
    """The client has disconnected."""
    PROTOCOL_ERROR = 1002
    """The bytes are not STOMP 1.2: coming back does not help."""
    POLICY_VIOLATION = 1008
    """The request is refused: coming back with the same one does not help."""
    TOO_LARGE = 1009
    RESTART = 1012
    """The replica stops: come back after the time in the reason, another one answers."""
    TRY_AGAIN_LATER = 1013
    """Too slow, too many, or a backend is down: come back; `after` gets what was missed."""
    TOKEN_EXPIRED = 4401
    """Get a new token, then come back."""


_CODES: Final = {
    "BAD_FRAME": CloseCode.PROTOCOL_ERROR,
    "FRAME_TOO_LARGE": CloseCode.TOO_LARGE,
    "TOKEN_EXPIRED": CloseCode.TOKEN_EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Close:
    """The close frame of a session. `reason`: a stable word, perhaps `retry-after-ms=NUMBER`."""

    code: CloseCode
    reason: str

    def __post_init__(self) -> None:
        if len(self.reason.encode()) > _MAX_REASON_BYTES:
            raise ValueError("the reason of a close frame has at most 123 bytes")

    @property
    def word(self) -> str:
        """The reason without its details, for metrics."""
        return self.reason.partition(" ")[0]


DISCONNECTED: Final = Close(CloseCode.NORMAL, "DISCONNECTED")
SLOW_SUBSCRIBER: Final = Close(CloseCode.TRY_AGAIN_LATER, "SLOW_SUBSCRIBER")
HEART_BEAT_MISSED: Final = Close(CloseCode.TRY_AGAIN_LATER, "HEART_BEAT_MISSED")


def close_of(error: SluiceError) -> Close:
    """Return the end of a session that failed with this error."""
    code = _CODES.get(error.reason)
    if code is None:
        code = CloseCode.TRY_AGAIN_LATER if error.retryable else CloseCode.POLICY_VIOLATION
    return Close(code, _with_delay(error.reason, error.retry_after_seconds))


def restart(retry_after_seconds: float) -> Close:
    """Return the end of a session whose replica stops."""
    return Close(CloseCode.RESTART, _with_delay("RESTART", retry_after_seconds))


def _with_delay(word: str, seconds: float | None) -> str:
    return word if seconds is None else f"{word} retry-after-ms={round(seconds * 1000)}"
