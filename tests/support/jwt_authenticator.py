"""An authenticator with a fixed set of keys."""

from __future__ import annotations

from collections.abc import Callable

from sluice_backends.instruments import Registry
from sluice_common.security.claims import ClaimRules
from sluice_common.security.keys.key_ring import KeyRing, key_set
from sluice_common.security.metrics import TokenMetrics
from sluice_common.security.tokens import JwtAuthenticator
from support import tokens


class FixedKeys:
    """Keys that the test replaces; counts the searches for unknown ones."""

    def __init__(self, keys: KeyRing | None) -> None:
        self.keys = keys
        self.searches = 0

    async def find_unknown(self) -> bool:
        self.searches += 1
        return False


def jwt_authenticator(clock: Callable[[], float], *keys: tokens.SigningKey) -> JwtAuthenticator:
    """Return an authenticator for tokens of these keys, by default of `tokens.rsa_key()`."""
    ring = key_set(tokens.key_set(*(keys or (tokens.rsa_key(),))))
    rules = ClaimRules(tokens.AUDIENCE)
    return JwtAuthenticator(FixedKeys(ring), rules, TokenMetrics(Registry()), clock=clock)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call with this token."""
    return (("authorization", f"Bearer {token}"),)
