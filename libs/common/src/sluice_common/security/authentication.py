"""Authentication: from the credentials of a request to a `Principal`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from sluice_core.access.principal import LOCAL_PRINCIPAL, Principal


class Authenticator(Protocol):
    """Authenticates requests."""

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return the principal of an `authorization` header, which is None if it is missing.

        Raise `Unauthenticated` if the credentials are missing or invalid. Must be safe for
        concurrent calls and must not block the event loop.
        """
        ...


@runtime_checkable
class KeyedAuthenticator(Authenticator, Protocol):
    """An authenticator whose keys may be withdrawn."""

    def holds_key(self, principal: Principal) -> bool:
        """Return whether the key that signed the token of a principal is still in use."""
        ...


def is_key_withdrawn(authenticator: Authenticator, principal: Principal) -> bool:
    """Return whether the key that signed the token of a principal is no longer in use."""
    if not isinstance(authenticator, KeyedAuthenticator):
        return False
    return not authenticator.holds_key(principal)


class LocalAuthenticator:
    """Authenticator of a server without keys: every request has the local principal.

    Only for loopback addresses; `addresses.require_loopback` refuses any other.
    """

    async def authenticate(self, authorization: str | None) -> Principal:
        return LOCAL_PRINCIPAL
