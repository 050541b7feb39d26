"""Links that log a user in, each once."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final

LINK_SECONDS: Final = 24 * 3600.0

_PREFIX: Final = "slk_"
"""Begins every token, so that scanners of leaked secrets recognize one."""


class LoginLinks:
    """Tokens of links that log a user in, each once. In the memory of one process.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, tuple[str, float]] = {}
        """User and end by token."""

    def issue(self, user_id: str) -> str:
        """Return a new token. Former ones of the user end."""
        self._open = {token: held for token, held in self._open.items() if held[0] != user_id}
        token = _PREFIX + secrets.token_urlsafe(32)
        self._open[token] = (user_id, self._clock() + LINK_SECONDS)
        return token

    def redeem(self, token: str) -> str | None:
        """Return the user of a token, and end it; None for one that is unknown, used or old."""
        user_id, expires_at = self._open.pop(token, ("", 0.0))
        return user_id if user_id and self._clock() < expires_at else None
