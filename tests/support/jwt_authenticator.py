"""Authenticators with keys that the test gives and replaces."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sluice_backends.instruments import Registry
from sluice_common.security.claims import ClaimRules
from sluice_common.security.keys.key_ring import KeyRing, key_set
from sluice_common.security.metrics import TokenMetrics
from sluice_common.security.tokens import JwtAuthenticator
from sluice_core.access.principal import Principal
from sluice_core.errors import Unauthenticated
from support import tokens
from support.tokens import DrivenClock


class FixedKeys:
    """Keys that the test replaces; counts the searches for unknown ones."""

    def __init__(self, keys: KeyRing | None) -> None:
        self.keys = keys
        self.searches = 0

    async def find_unknown(self) -> float | None:
        self.searches += 1
        return None


def jwt_authenticator(clock: Callable[[], float], *keys: tokens.SigningKey) -> JwtAuthenticator:
    """Return an authenticator for tokens of these keys, by default of `tokens.rsa_key()`."""
    ring = key_set(tokens.key_set(*(keys or (tokens.rsa_key(),))))
    rules = ClaimRules(tokens.AUDIENCE)
    return JwtAuthenticator(FixedKeys(ring), rules, TokenMetrics(Registry()), clock=clock)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call with this token."""
    return (("authorization", f"Bearer {token}"),)


class Server:
    """The token check of a server, with a driven clock and a registry of its own."""

    def __init__(self, keys: bytes | KeyRing, *, issuer: str | None = tokens.ISSUER) -> None:
        self.source = FixedKeys(key_set(keys) if isinstance(keys, bytes) else keys)
        self.registry = Registry()
        self.clock = DrivenClock()
        self.authenticator = JwtAuthenticator(
            self.source,
            ClaimRules(tokens.AUDIENCE, issuer),
            TokenMetrics(self.registry),
            clock=self.clock,
        )

    async def accept(self, token: str) -> Principal:
        return await self.authenticator.authenticate(f"Bearer {token}")

    async def refusal(self, token: str, scheme: str = "Bearer ") -> str:
        """Return the reason of a refusal."""
        with pytest.raises(Unauthenticated) as caught:
            await self.authenticator.authenticate(f"{scheme}{token}")
        assert len(token) < 16 or token[:16] not in str(caught.value)
        return caught.value.reason

    def failed(self, check: str) -> float:
        """Return how often this check has failed."""
        return (
            self.registry.get_sample_value("sluice_auth_failed_checks_total", {"check": check}) or 0
        )


async def refused_as(server: Server, token: str, check: str) -> None:
    """Require BAD_TOKEN for callers, and the failed check for operators."""
    before = server.failed(check)
    assert await server.refusal(token) == "BAD_TOKEN"
    assert server.failed(check) == before + 1
