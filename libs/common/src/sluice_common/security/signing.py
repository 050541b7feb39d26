"""Signing of tokens with the secret of one machine (HS256)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt

from sluice_common.security.keys.key_ring import KeyRing

LOCAL_ISSUER: Final = "sluice"
"""`iss` of tokens that a server's own secret signs."""


@dataclass(frozen=True, slots=True)
class TokenContent:
    """What a token says. `drives`: names or prefixes with `*`; empty means every drive."""

    tenant: str
    subject: str
    scopes: Sequence[str]
    lifetime_seconds: float
    drives: Sequence[str] = ()
    groups: Sequence[str] = ()


def sign_token(
    secret: KeyRing, content: TokenContent, *, audience: str, tenant_claim: str, now: float
) -> str:
    """Return a token that `secret` verifies.

    Args:
        now: Unix seconds.
    """
    claims: dict[str, Any] = {
        "iss": LOCAL_ISSUER,
        "aud": audience,
        "sub": content.subject,
        "scope": " ".join(content.scopes),
        "iat": int(now),
        "exp": int(now + content.lifetime_seconds),
        "jti": secrets.token_hex(16),
        tenant_claim: content.tenant,
    }
    if content.drives:
        claims["drives"] = list(content.drives)
    if content.groups:
        claims["groups"] = list(content.groups)
    return jwt.encode({"alg": "HS256"}, claims, secret.only_key())
