"""Access tokens that this gateway issues: their claims."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sluice_core.access.scopes import Scope
from sluice_gateway.auth.signing_keys import SigningKey

USER_SCOPES: Final = (
    Scope.PHOTOS_READ,
    Scope.PHOTOS_WRITE,
    Scope.UPLOADS_READ,
    Scope.UPLOADS_WRITE,
    Scope.NODES_READ,
    Scope.NODES_WRITE,
    Scope.DRIVES_READ,
)
"""What users may do in their own tenant. Not tenant:admin, which sets quotas."""


class KeySource(Protocol):
    def current(self) -> SigningKey:
        """Return the key for a new token."""
        ...


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """What every token of this gateway says.

    issuer: the gateway's public URL, `iss`.
    audience: `aud`.
    tenant_claim: the claim that holds the tenant.
    """

    issuer: str
    audience: str
    tenant_claim: str
    lifetime_seconds: float


class AccessTokens:
    """Signs access tokens.

    Args:
        clock: Unix seconds.
    """

    def __init__(
        self, keys: KeySource, terms: TokenTerms, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._clock = clock
        self.terms: Final = terms

    def issue(self, user_id: str) -> str:
        """Return a token of a user. Raise `Unavailable` AUTH_KEYS_UNAVAILABLE."""
        return self._keys.current().sign(self._claims(user_id))

    def imitate(self, user_id: str) -> str:
        """Return an invalid token in the form of a valid one: its signature is random.

        Raise `Unavailable` AUTH_KEYS_UNAVAILABLE.
        """
        signed, _, signature = self.issue(user_id).rpartition(".")
        size = len(signature) * 3 // 4
        return f"{signed}.{secrets.token_urlsafe(size)}"

    def _claims(self, user_id: str) -> dict[str, Any]:
        now, terms = self._clock(), self.terms
        return {
            "iss": terms.issuer,
            "aud": terms.audience,
            "sub": user_id,
            "scope": " ".join(USER_SCOPES),
            "iat": int(now),
            "exp": int(now + terms.lifetime_seconds),
            "jti": secrets.token_hex(16),
            terms.tenant_claim: user_id,
        }
