"""What the commands of accounts work with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sluice_gateway.auth.guess_limits import GuessLimits
from sluice_gateway.auth.login_links import LoginLinks
from sluice_gateway.auth.passwords import Passwords
from sluice_gateway.auth.ports import Homes, Users
from sluice_gateway.auth.sessions import Sessions
from sluice_gateway.metrics import AccountMetrics


@dataclass(frozen=True, slots=True)
class Credentials:
    """An attempt to prove an identity.

    email: normalized.
    password: as it is hashed, see `names.check_password`.
    address: of the client.
    """

    email: str
    password: bytes = field(repr=False)
    address: str


@dataclass(frozen=True, slots=True)
class Accounts:
    """Ports and helpers of the commands.

    even_seconds: shortest duration of a registration. It hides that a known email is not written.
    clock: Unix seconds.
    """

    users: Users
    homes: Homes
    sessions: Sessions
    passwords: Passwords
    limits: GuessLimits
    metrics: AccountMetrics
    links: LoginLinks = field(default_factory=LoginLinks)
    even_seconds: float = 0.2
    clock: Callable[[], float] = time.time

    def count(self, kind: str, outcome: str) -> None:
        """Count an attempt."""
        self.metrics.sessions.labels(kind, outcome).inc()

    @asynccontextmanager
    async def even_time(self) -> AsyncIterator[None]:
        """Take a whole multiple of `even_seconds`, however the block ends.

        A multiple, not only a minimum: under load everything takes longer than the minimum.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        finally:
            if self.even_seconds > 0:
                passed = loop.time() - began
                await asyncio.sleep(-passed % self.even_seconds)
