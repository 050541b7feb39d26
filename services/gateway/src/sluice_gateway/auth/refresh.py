"""Command: exchange a refresh token for a new session."""

from __future__ import annotations

import structlog

from sluice_core.ports.refresh_tokens import RotationState
from sluice_core.ports.users import UserStatus
from sluice_gateway.auth.accounts import Accounts
from sluice_gateway.auth.sessions import Session, session_ended

_log = structlog.get_logger(__name__)


async def refresh(accounts: Accounts, refresh_token: str) -> Session:
    """Return the session with new tokens, and invalidate the old refresh token.

    A second use means that two parties have the token, and the server cannot distinguish the thief
    from the owner. So the whole family ends (RFC 9700, 4.14.2). Only whoever lost the answer, as a
    page that is reloaded does, may repeat the call for some seconds (ADR 0033).

    Raise `Unauthenticated` SESSION_ENDED.
    """
    rotation, successor = await accounts.sessions.rotate(refresh_token)
    outcome = rotation.state.name.lower()
    if rotation.state not in (RotationState.ROTATED, RotationState.REPEATED):
        if rotation.state is RotationState.REUSED:
            _log.warning("refresh_token.reused", userId=rotation.user_id)
        accounts.count("refresh", outcome)
        raise session_ended()
    user = await accounts.users.get_user(rotation.user_id)
    if user is None or user.status is not UserStatus.ACTIVE:
        await accounts.sessions.end(successor)
        accounts.count("refresh", "refused")
        raise session_ended()
    accounts.count("refresh", outcome)
    return accounts.sessions.renewed(user, successor)
