"""Command: end a session."""

from __future__ import annotations

from sluice_core.access.audit import AccountAction, session_entry
from sluice_gateway.auth.accounts import Accounts


async def logout(accounts: Accounts, refresh_token: str) -> None:
    """End the session of a refresh token; no-op for an invalid one.

    An access token stays valid until it expires, a quarter of an hour at most.
    """
    await accounts.sessions.end(refresh_token, session_entry(AccountAction.LOG_OUT))
    accounts.count("logout", "ended")
