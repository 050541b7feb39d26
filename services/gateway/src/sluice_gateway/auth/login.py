"""Command: log in by email and password."""

from __future__ import annotations

from sluice_core.access.audit import AccountAction
from sluice_core.ports.users import UserStatus
from sluice_gateway.auth.accounts import Accounts, Credentials
from sluice_gateway.auth.sessions import Session, wrong_credentials


async def login(accounts: Accounts, credentials: Credentials) -> Session:
    """Open a session.

    An unknown email costs the same time as a wrong password, and has the same answer.

    Raise `Unauthenticated` WRONG_CREDENTIALS, `ResourceExhausted` RATE_LIMITED, `Unavailable`
    LOGIN_BUSY.
    """
    await accounts.limits.admit(credentials.email, credentials.address)
    user = await accounts.users.find_user(credentials.email)
    stored = None if user is None else user.password_hash
    is_right = await accounts.passwords.verify(credentials.password, stored)
    if user is None or not is_right or user.status is not UserStatus.ACTIVE:
        accounts.count("login", "refused")
        raise wrong_credentials()
    await accounts.homes.prepare_home(user.user_id)
    accounts.count("login", "opened")
    return await accounts.sessions.open(user, AccountAction.LOG_IN)
