"""Commands of an operator: end sessions, disable and enable a user, set a password."""

from __future__ import annotations

from typing import Protocol

from sluice_core.access.audit import AccountAction, AuditEntry, operator_entry
from sluice_core.errors import NotFound
from sluice_core.ports.users import User, UserStatus


class Accounts(Protocol):
    """The part of the catalogue that these commands use."""

    async def find_user(self, email: str) -> User | None: ...

    async def set_password_hash(
        self, user_id: str, password_hash: str, *, audit: AuditEntry | None = None
    ) -> bool: ...

    async def set_user_status(
        self, user_id: str, status: UserStatus, *, audit: AuditEntry | None = None
    ) -> bool: ...

    async def revoke_tokens_of(self, user_id: str, *, audit: AuditEntry | None = None) -> None: ...


async def end_sessions(accounts: Accounts, email: str) -> User:
    """End all sessions of a user. Raise `NotFound` USER_NOT_FOUND, as all of these commands do.

    Access tokens stay valid until they expire, a quarter of an hour by default.
    """
    user = await _found(accounts, email)
    entry = operator_entry(AccountAction.END_SESSIONS, user.user_id)
    await accounts.revoke_tokens_of(user.user_id, audit=entry)
    return user


async def disable_user(accounts: Accounts, email: str) -> User:
    """Refuse all log-ins of a user, and end their sessions as `end_sessions` does."""
    user = await _found(accounts, email)
    entry = operator_entry(AccountAction.DISABLE_USER, user.user_id)
    await accounts.set_user_status(user.user_id, UserStatus.DISABLED, audit=entry)
    return user


async def enable_user(accounts: Accounts, email: str) -> User:
    """Accept log-ins of a user again. Sessions that have ended stay so."""
    user = await _found(accounts, email)
    entry = operator_entry(AccountAction.ENABLE_USER, user.user_id)
    await accounts.set_user_status(user.user_id, UserStatus.ACTIVE, audit=entry)
    return user


async def set_password(accounts: Accounts, email: str, password_hash: str) -> User:
    """Replace the password of a user, and end their sessions as `end_sessions` does."""
    user = await _found(accounts, email)
    entry = operator_entry(AccountAction.SET_PASSWORD, user.user_id)
    await accounts.set_password_hash(user.user_id, password_hash, audit=entry)
    return user


async def _found(accounts: Accounts, email: str) -> User:
    user = await accounts.find_user(email)
    if user is None:
        raise NotFound("USER_NOT_FOUND", "No user has this email address; give that of the log-in.")
    return user
