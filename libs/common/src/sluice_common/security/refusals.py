"""Reasons for which a token is refused: one for callers, the failed check for operators."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sluice_core.errors import Unauthenticated

TOKEN_EXPIRED: Final = "TOKEN_EXPIRED"
"""Reason of a token that was valid before."""


class Check(StrEnum):
    """Checks of a token, in their order; label of the metric of failed checks."""

    SCHEME = "scheme"
    SIZE = "size"
    FORM = "form"
    ALGORITHM = "algorithm"
    TYPE = "type"
    KEY = "key"
    SIGNATURE = "signature"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRY = "expiry"
    EXPIRED = "expired"
    NOT_BEFORE = "not_before"
    ISSUED_AT = "issued_at"
    SUBJECT = "subject"
    TENANT = "tenant"
    SCOPES = "scopes"
    GROUPS = "groups"
    DRIVES = "drives"


class TokenRefused(Exception):
    """A token failed a check. `to_error` says what its sender may learn."""

    def __init__(self, check: Check) -> None:
        super().__init__(check.value)
        self.check = check

    def to_error(self) -> Unauthenticated:
        """Return the error for the caller; only an expired token is distinguished."""
        return token_expired() if self.check is Check.EXPIRED else _bad_token()


def token_expired() -> Unauthenticated:
    """Return the error of a token that was valid before."""
    return Unauthenticated(TOKEN_EXPIRED, "The token has expired; send a new one.")


def no_credentials() -> Unauthenticated:
    """Return the error of a call without credentials."""
    return Unauthenticated(
        "NO_CREDENTIALS", "The call carries no credentials; send authorization: Bearer TOKEN."
    )


def _bad_token() -> Unauthenticated:
    # One text for all checks: an attacker learns nothing about keys, claims or tenants.
    return Unauthenticated(
        "BAD_TOKEN", "The token is not valid for this server; send one that was issued for it."
    )


def ambiguous_credentials() -> Unauthenticated:
    """Several headers, of which proxies and servers may each regard another one."""
    return Unauthenticated("AMBIGUOUS_CREDENTIALS", "Send exactly one authorization header.")
