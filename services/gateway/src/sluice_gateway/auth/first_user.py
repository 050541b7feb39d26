"""Commands: make the first user of a server on this machine, and log in by a link."""

from __future__ import annotations

import secrets

from sluice_core.access.audit import AccountAction
from sluice_core.errors import Unauthenticated
from sluice_core.ports.users import UserStatus
from sluice_gateway.auth.accounts import Accounts
from sluice_gateway.auth.names import FIRST_EMAIL, new_user_id
from sluice_gateway.auth.sessions import Session


async def link_for_first_user(accounts: Accounts) -> str:
    """Return the token of a new link; the user is created with the first one.

    The account has a password that nobody knows: only links lead to it.
    """
    user = await accounts.users.find_user(FIRST_EMAIL)
    if user is None:
        password_hash = await accounts.passwords.hash(secrets.token_bytes(32))
        await accounts.users.add_user(new_user_id(), FIRST_EMAIL, password_hash)
        user = await accounts.users.find_user(FIRST_EMAIL)
        assert user is not None, "it was added by this call or by a concurrent one"
    await accounts.homes.prepare_home(user.user_id)
    return accounts.links.issue(user.user_id)


async def login_by_link(accounts: Accounts, token: str) -> Session:
    """Open a session by a link. Raise `Unauthenticated` LINK_ENDED."""
    user_id = accounts.links.redeem(token)
    user = None if user_id is None else await accounts.users.get_user(user_id)
    if user is None or user.status is not UserStatus.ACTIVE:
        accounts.count("link", "refused")
        raise Unauthenticated(
            "LINK_ENDED", "The link was used or is too old; start the server again for a new one."
        )
    accounts.count("link", "opened")
    return await accounts.sessions.open(user, AccountAction.LOG_IN_BY_LINK)
