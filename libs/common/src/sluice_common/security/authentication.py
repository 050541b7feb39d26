"""Who asks: from the credentials of a request to a `Principal`."""

from __future__ import annotations

from typing import Protocol

from sluice_core.access.principal import LOCAL_PRINCIPAL, Principal


class Authenticator(Protocol):
    async def authenticate(self, authorization: str | None) -> Principal:
        """The principal behind the `authorization` header; None when there is no header.

        Raises `Unauthenticated` when the credentials are missing or worthless. Safe to call from
        any number of requests at once; must not block the event loop.
        """
        ...


class LocalAuthenticator:
    """A server without keys: everybody is the local principal.

    Only right on a loopback address; `addresses.require_loopback` refuses any other.
    """

    async def authenticate(self, authorization: str | None) -> Principal:
        return LOCAL_PRINCIPAL
