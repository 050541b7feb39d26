"""Expiry of streams: one that outlives the token of its caller ends after a grace period.

One whose key was withdrawn ends at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

from sluice_common.security.refusals import token_expired


class StreamExpiry:
    """Ends streams `grace_seconds` after the expiry of their token.

    A timer per stream and no work per message. The handler is cancelled as if its client had
    disconnected: acknowledged chunks stay, and the client continues with a new token.

    Args:
        clock: Unix seconds.
    """

    check_seconds: ClassVar[float] = 60.0
    """Longest time between two checks: the clock may be set, the machine may sleep, and the key may
    be withdrawn."""

    def __init__(
        self, grace_seconds: float = 300.0, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._grace_seconds = grace_seconds
        self._clock = clock

    @asynccontextmanager
    async def limit(
        self,
        expires_at: float,
        expired: Callable[[], None] = lambda: None,
        is_withdrawn: Callable[[], bool] = lambda: False,
    ) -> AsyncIterator[None]:
        """End the block when the token has expired for too long, or its key was withdrawn.

        Args:
            expires_at: Unix seconds.
            expired: called when the block is ended.
            is_withdrawn: whether the key of the token is no longer in use.

        Raise `Unauthenticated` TOKEN_EXPIRED out of the block, in both cases: the client is to
        continue with a new token.
        """
        ends_at = expires_at + self._grace_seconds
        loop = asyncio.get_running_loop()
        timer: asyncio.Handle
        try:
            async with asyncio.timeout(None) as limit:

                def check() -> None:
                    nonlocal timer
                    left = ends_at - self._clock()
                    if left <= 0 or is_withdrawn():
                        limit.reschedule(loop.time())
                    else:
                        timer = loop.call_later(min(left, self.check_seconds), check)

                timer = loop.call_soon(check)
                try:
                    yield
                finally:
                    timer.cancel()
        except TimeoutError:
            if not limit.expired():
                raise
            expired()
            raise token_expired() from None
