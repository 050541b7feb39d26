"""Claims of a verified token, checked and translated to a `Principal`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sluice_common.security.refusals import Check, TokenRefused
from sluice_core.access.principal import Principal
from sluice_core.errors import InvalidArgument
from sluice_core.uploads.names import check_subject, check_tenant_name

LEEWAY_SECONDS: Final = 30.0
"""Allowed difference between our clock and the issuer's."""

_MAX_TIME: Final = 10**12
"""Bound of times in Unix seconds: everything below converts exactly to a float."""
_DRIVES: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\*?|\*")
"""A drive name, or a prefix of names that ends in `*`."""


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What the claims of a valid token must be.

    `issuer`: required `iss`; None if the keys come from a file, which has one issuer.
    `tenant_claim`: the claim that holds the tenant.
    """

    audience: str
    issuer: str | None = None
    tenant_claim: str = "tenant"


def principal_of(claims: Mapping[str, Any], rules: ClaimRules, now: float) -> Principal:
    """Return the principal of verified claims.

    Args:
        now: Unix seconds.

    Raise `TokenRefused` for the first claim that is missing or invalid.
    """
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise TokenRefused(Check.ISSUER)
    if not _is_only(claims.get("aud"), rules.audience):
        raise TokenRefused(Check.AUDIENCE)
    expires_at = _time(claims, "exp", Check.EXPIRY)
    if expires_at is None:
        raise TokenRefused(Check.EXPIRY)
    if is_expired(expires_at, now):
        raise TokenRefused(Check.EXPIRED)
    _check_not_later(claims, "nbf", Check.NOT_BEFORE, now)
    _check_not_later(claims, "iat", Check.ISSUED_AT, now)
    # Evaluated in this order: the failed check is counted.
    return Principal(
        subject=_subject(claims.get("sub")),
        tenant=_tenant(claims.get(rules.tenant_claim)),
        scopes=_scopes(claims),
        drives=_drives(claims),
        groups=_groups(claims),
        expires_at=expires_at,
    )


def is_expired(expires_at: float, now: float) -> bool:
    """Return whether a token with this `exp` has expired, with the leeway."""
    return now >= expires_at + LEEWAY_SECONDS


def _is_only(value: object, audience: str) -> bool:
    """Return whether `audience` is the only one.

    Each service that a token is for can send it on to the others.
    """
    return value == audience or value == [audience]


def _time(claims: Mapping[str, Any], name: str, check: Check) -> float | None:
    """Return a NumericDate (RFC 7519, 2), None if it is absent."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused(check)
    if not 0 <= value < _MAX_TIME:  # False for NaN
        raise TokenRefused(check)
    return float(value)


def _check_not_later(claims: Mapping[str, Any], name: str, check: Check, now: float) -> None:
    value = _time(claims, name, check)
    if value is not None and value > now + LEEWAY_SECONDS:
        raise TokenRefused(check)


def _tenant(value: object) -> str:
    try:
        if isinstance(value, str):
            return check_tenant_name(value)
    except InvalidArgument:
        pass
    raise TokenRefused(Check.TENANT)


def _subject(value: object, check: Check = Check.SUBJECT) -> str:
    try:
        if isinstance(value, str):
            return check_subject(value)
    except InvalidArgument:
        pass
    raise TokenRefused(check)


def _groups(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the groups, which have the form of subjects: the catalogue is asked for them."""
    groups = _texts(claims.get("groups", []), Check.GROUPS)
    return frozenset(_subject(group, Check.GROUPS) for group in groups)


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes of `scope` (RFC 8693, 4.2), or of `scp`, which some issuers send."""
    value = claims["scope"] if "scope" in claims else claims.get("scp", "")
    if isinstance(value, str):
        return frozenset(value.split())
    return frozenset(_texts(value, Check.SCOPES))


def _drives(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the drives to which the token is limited.

    An empty list is refused: to a principal, no drives means every drive.
    """
    if "drives" not in claims:
        return ()
    drives = _texts(claims["drives"], Check.DRIVES)
    if not drives or not all(_DRIVES.fullmatch(drive) for drive in drives):
        raise TokenRefused(Check.DRIVES)
    return tuple(dict.fromkeys(drives))


def _texts(value: object, check: Check) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TokenRefused(check)
    return value
