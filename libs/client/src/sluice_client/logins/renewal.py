"""Tokens of a stored log-in, renewed before they end."""

from __future__ import annotations

import time
from collections.abc import Callable

from sluice_client.errors import SluiceError, Unauthenticated, Unavailable
from sluice_client.logins.gateway_api import GatewayApi
from sluice_client.logins.stored_login import LoginFile, StoredLogin
from sluice_client.tasks import in_thread


class RenewedToken:
    """A `TokenSource` of a stored log-in.

    Args:
        connect: returns the API of a gateway's URL.
        clock: Unix seconds.
    """

    def __init__(
        self,
        file: LoginFile,
        connect: Callable[[str], GatewayApi],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._connect = connect
        self._clock = clock
        self._last: StoredLogin | None = None

    def is_due(self) -> bool:
        """Return whether the last token is about to end."""
        return self._last is not None and self._last.renew_at <= self._clock()

    async def __call__(self) -> str:
        """Return a token with time left; not the last one again, which a server has refused.

        Raise Unauthenticated NOT_LOGGED_IN, SESSION_ENDED.
        """
        return (await in_thread(self.renew)).token

    def renew(self) -> StoredLogin:
        """The same, blocking."""
        with self._file.locked():
            stored = self._file.load()
            if stored is None:
                raise not_logged_in()
            refused = self._last is not None and stored.token == self._last.token
            if refused or stored.renew_at <= self._clock():
                stored = self._refreshed(stored)
            self._last = stored
            return stored

    def _refreshed(self, stored: StoredLogin) -> StoredLogin:
        now = self._clock()
        try:
            session = self._connect(stored.gateway).refresh(stored.refresh_token)
        except Unauthenticated as error:
            raise Unauthenticated(
                error.reason, "the log-in has ended; run `sluice login` again"
            ) from None
        except Unavailable:
            if now < stored.expires_at:
                return stored  # it still works; the next call tries again
            raise
        renewed = StoredLogin.of(stored.gateway, stored.hosts, session, now)
        self._file.save(renewed)
        return renewed


def not_logged_in() -> SluiceError:
    """Return the error of a command that needs a log-in."""
    return Unauthenticated(
        "NOT_LOGGED_IN", "there is no log-in on this machine; run `sluice login`"
    )
