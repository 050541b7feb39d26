"""The end of a session's token, with a warning before it."""

from __future__ import annotations

import math
from collections.abc import Callable

from sluice_core.access.principal import Principal


class TokenEnd:
    """When a session is to be warned, and when it ends. Times are Unix seconds.

    Unlike an upload's stream, which has bytes to save, a session gets no time after the end: its
    client comes back with a new token and misses nothing.

    Args:
        is_withdrawn: whether the key of the token is no longer in use, which ends it too.
    """

    def __init__(
        self,
        principal: Principal,
        warning_seconds: float,
        is_withdrawn: Callable[[], bool] = lambda: False,
    ) -> None:
        ends_at = principal.expires_at
        self._is_withdrawn = is_withdrawn
        self._ends_at = math.inf if ends_at is None else ends_at
        self._warns_at = self._ends_at - warning_seconds
        self.has_warned = False

    def due_in(self, unix: float) -> float:
        """Return the seconds until the next step; infinite for a principal without a token."""
        return (self._ends_at if self.has_warned else self._warns_at) - unix

    def should_warn(self, unix: float) -> bool:
        """Return True once, when the warning is due."""
        if self.has_warned or unix < self._warns_at:
            return False
        self.has_warned = True
        return True

    def has_ended(self, unix: float) -> bool:
        return unix >= self._ends_at or self._is_withdrawn()

    def notice(self, unix: float) -> dict[str, str | int]:
        """Return the warning."""
        return {"type": "TOKEN_EXPIRES", "secondsLeft": max(0, int(self._ends_at - unix))}
