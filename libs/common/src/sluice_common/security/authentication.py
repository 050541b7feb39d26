"""Authentication: from the credentials of a request to a `Principal`."""

from __future__ import annotations

from typing import Protocol

from sluice_core.access.principal import LOCAL_PRINCIPAL, Principal


class Authenticator(Protocol):
    """Authenticates requests."""

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return the principal of an `authorization` header, which is None if it is missing.

        Raise `Unauthenticated` if the credentials are missing or invalid. Must be safe for
        concurrent calls and must not block the event loop.
        """
        ...


class LocalAuthenticator:
    """Authenticator of a server without keys: every request has the local principal.

    Only for loopback addresses; `addresses.require_loopback` refuses any other.
    """

    async def authenticate(self, authorization: str | None) -> Principal:
        return LOCAL_PRINCIPAL
