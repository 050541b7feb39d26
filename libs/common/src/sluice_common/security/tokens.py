"""Authentication by signed tokens (JSON Web Tokens, RFC 7519)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from sluice_common.security.claims import ClaimRules, is_expired, principal_of
from sluice_common.security.compact import CompactToken, parse_compact
from sluice_common.security.keys.key_ring import KeyRing, VerificationKey
from sluice_common.security.metrics import TokenMetrics
from sluice_common.security.refusals import Check, TokenRefused, no_credentials
from sluice_common.security.token_cache import TokenCache, VerifiedToken
from sluice_core.access.principal import Principal
from sluice_core.errors import Unavailable

MAX_TOKEN_BYTES: Final = 12 * 1024
"""Largest token: below the 16 KiB of metadata that a server accepts in total."""

_SCHEME: Final = "bearer "


class TokenKeys(Protocol):
    """Keys that verify tokens; implemented by `RefreshedKeys`."""

    @property
    def keys(self) -> KeyRing | None: ...

    async def find_unknown(self) -> float | None:
        """Look for the unknown key of a token.

        Return None if the keys are newer than the call, otherwise the seconds until the next try.
        """
        ...


class JwtAuthenticator:
    """Authenticates requests by `authorization: Bearer TOKEN`.

    A token is checked in this order: size, form, algorithm of the key's type, signature, issuer,
    audience, times, subject, tenant, scopes, drives. Only then does it become a principal, which is
    cached until the token expires or its key is withdrawn.

    Args:
        clock: Unix seconds.
    """

    def __init__(
        self,
        keys: TokenKeys,
        rules: ClaimRules,
        metrics: TokenMetrics,
        *,
        cache: TokenCache | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._rules = rules
        self._failed_checks = metrics.failed_checks
        self._verified = metrics.verified
        self._cache = TokenCache() if cache is None else cache
        self._clock = clock

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return the principal of a header.

        Raise `Unauthenticated` NO_CREDENTIALS, BAD_TOKEN, TOKEN_EXPIRED; `Unavailable`
        AUTH_KEYS_UNAVAILABLE while there are no keys, or while the key of the token is unknown and
        the search for it is rationed or has failed.
        """
        if not authorization:
            raise no_credentials()
        try:
            token = _bearer_token(authorization)
            digest = hashlib.sha256(token).digest()
            found = self._find_verified(digest)
            if found is None:
                found = await self._verify(token)
                self._cache.put(digest, found)
        except TokenRefused as refused:
            self._failed_checks.labels(refused.check).inc()
            # Without its cause: the traceback would hold the token.
            raise refused.to_error() from None
        return found.principal

    def holds_key(self, principal: Principal) -> bool:
        """Return whether the key that signed the token of a principal is still in use."""
        keys = self._keys.keys
        return keys is not None and principal.key is not None and keys.holds(principal.key)

    def _find_verified(self, digest: bytes) -> VerifiedToken | None:
        """Return the token from the cache if it is still valid."""
        found = self._cache.get(digest)
        if found is None:
            return None
        keys = self._keys.keys
        if is_expired(found.expires_at, self._clock()):
            self._cache.discard(digest)
            raise TokenRefused(Check.EXPIRED)
        if keys is None or not keys.holds(found.key):
            self._cache.discard(digest)
            return None
        return found

    async def _verify(self, text: bytes) -> VerifiedToken:
        token = parse_compact(text)
        key = await self._signer_of(token)
        principal = principal_of(token.claims(), self._rules, self._clock())
        expires_at = principal.expires_at
        assert expires_at is not None, "principal_of requires exp"
        self._verified.inc()
        principal = replace(principal, key=key.thumbprint)
        return VerifiedToken(principal, expires_at, key.thumbprint, len(text))

    async def _signer_of(self, token: CompactToken) -> VerificationKey:
        """Return the key that signed the token; look for new keys if none of ours did."""
        key = self._signer_among_known(token)
        if key is not None:
            return key
        ring = self._keys.keys
        retry_after_seconds = await self._keys.find_unknown()
        # The same keys are not tried again: a verification blocks the event loop.
        if self._keys.keys is not ring and (key := self._signer_among_known(token)) is not None:
            return key
        # The issuer may have added the key since the last load: such a token is not refused for
        # good because somebody else's made-up key has used up the search.
        if retry_after_seconds is not None or self._keys.keys is None:
            raise Unavailable(
                "AUTH_KEYS_UNAVAILABLE",
                "The server cannot verify tokens of this key at the moment; try again.",
                retry_after_seconds=retry_after_seconds or 1.0,
            )
        raise TokenRefused(Check.KEY)

    def _signer_among_known(self, token: CompactToken) -> VerificationKey | None:
        keys = self._keys.keys
        if keys is None:
            return None
        key = keys.verify(token)
        if key is None and keys.knows(token.key_id):
            raise TokenRefused(Check.SIGNATURE)
        return key


def _bearer_token(authorization: str) -> bytes:
    if len(authorization) > MAX_TOKEN_BYTES + len(_SCHEME):
        raise TokenRefused(Check.SIZE)
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        raise TokenRefused(Check.SCHEME)
    try:
        return authorization[len(_SCHEME) :].strip(" ").encode("ascii")
    except UnicodeEncodeError:
        raise TokenRefused(Check.FORM) from None
