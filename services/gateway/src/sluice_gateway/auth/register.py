"""Command: register by email and password."""

from __future__ import annotations

from sluice_core.access.audit import AccountAction
from sluice_core.ports.users import UserStatus
from sluice_gateway.auth.accounts import Accounts, Credentials
from sluice_gateway.auth.names import FIRST_EMAIL, new_user_id
from sluice_gateway.auth.sessions import Session


async def register(accounts: Accounts, credentials: Credentials) -> Session:
    """Create a user with a tenant and a drive of their own, and open a session.

    The answer does not reveal whether the email is known. For a known email and the right password
    this is a log-in, so that a client may repeat a call whose answer was lost. For another password
    the session is an imitation: it has the form and the delay of a real one, and its tokens are
    not valid.

    Raise `ResourceExhausted` RATE_LIMITED, `Unavailable` LOGIN_BUSY.
    """
    await accounts.limits.admit(credentials.email, credentials.address)
    async with accounts.even_time():
        known = await accounts.users.find_user(credentials.email)
        if known is None and credentials.email != FIRST_EMAIL:
            password_hash = await accounts.passwords.hash(credentials.password)
            user_id = new_user_id()
            is_new = await accounts.users.add_user(user_id, credentials.email, password_hash)
            # By the email, not the id: a concurrent call may have registered it.
            known = await accounts.users.find_user(credentials.email)
            if is_new and known is not None:
                await accounts.homes.prepare_home(user_id)
                accounts.count("register", "created")
                return await accounts.sessions.open(known, AccountAction.REGISTER)
        stored = None if known is None else known.password_hash
        is_right = await accounts.passwords.verify(credentials.password, stored)
        if known is None or not is_right or known.status is not UserStatus.ACTIVE:
            accounts.count("register", "imitated")
            return accounts.sessions.imitate(credentials.email)
        # A call that was killed half-way may have left the user without it.
        await accounts.homes.prepare_home(known.user_id)
        accounts.count("register", "known")
        return await accounts.sessions.open(known, AccountAction.LOG_IN)
