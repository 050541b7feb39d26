"""Sessions: an access token, and a refresh token that leads to the next one."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from sluice_core.access.audit import (
    REFRESH_TOKEN_REUSED,
    AccountAction,
    AuditEntry,
    session_entry,
)
from sluice_core.errors import NotFound, Unauthenticated
from sluice_core.ports.refresh_tokens import Rotation, RotationState
from sluice_core.ports.users import User
from sluice_gateway.auth.access_tokens import AccessTokens
from sluice_gateway.auth.names import new_user_id
from sluice_gateway.auth.ports import RefreshTokens

_PREFIX: Final = "srt_"
"""Begins every refresh token, so that scanners of leaked secrets recognize one."""
_TOKEN_BYTES: Final = 32
_FORM: Final = re.compile(r"srt_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Session:
    """What a client keeps.

    expires_in: seconds until the access token ends.
    is_imitation: whether its tokens are not valid.
    """

    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    user_id: str
    email: str
    created_at: float
    is_imitation: bool = False


class Sessions:
    """Opens, renews and ends sessions.

    Args:
        lifetime_seconds: of a refresh token that is not used; each use begins it anew.
        clock: Unix seconds.
    """

    def __init__(
        self,
        tokens: RefreshTokens,
        access: AccessTokens,
        lifetime_seconds: float,
        repeat_seconds: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = tokens
        self._access = access
        self._lifetime_seconds = lifetime_seconds
        self._repeat_seconds = repeat_seconds
        self._clock = clock

    async def open(self, user: User, action: AccountAction) -> Session:
        """Return a new session of a user, which the audit log has by the action that opens it.

        Raise `Unauthenticated` WRONG_CREDENTIALS for one who was disabled meanwhile.
        """
        refresh_token = _new_refresh_token()
        session = self._session(
            user.user_id, user.email, user.created_at, self._access.issue, refresh_token
        )
        try:
            await self._tokens.begin_family(
                digest_of(refresh_token),
                user.user_id,
                self._expiry(),
                audit=session_entry(action, user.user_id),
            )
        except NotFound:
            raise wrong_credentials() from None
        return session

    def imitate(self, email: str) -> Session:
        """Return a session without a user, in the form of a real one. Its tokens are not valid."""
        session = self._session(
            new_user_id(), email, self._clock(), self._access.imitate, _new_refresh_token()
        )
        return replace(session, is_imitation=True)

    async def rotate(self, refresh_token: str) -> tuple[Rotation, str]:
        """Replace a refresh token; return what became of it, and its successor."""
        if not _FORM.fullmatch(refresh_token):
            return Rotation(RotationState.UNKNOWN), ""
        successor = _new_refresh_token()
        rotation = await self._tokens.rotate_token(
            digest_of(refresh_token),
            digest_of(successor),
            self._expiry(),
            repeat_seconds=self._repeat_seconds,
            audit_reuse=session_entry(AccountAction.REFRESH_SESSION, outcome=REFRESH_TOKEN_REUSED),
        )
        return rotation, successor

    def renewed(self, user: User, refresh_token: str) -> Session:
        """Return the session of a user whose refresh token was replaced by this one."""
        return self._session(
            user.user_id, user.email, user.created_at, self._access.issue, refresh_token
        )

    async def end(self, refresh_token: str, audit: AuditEntry | None = None) -> None:
        """End the session of a refresh token, and all that its family leads to.

        Args:
            audit: appended with the user of the session, if it was open.
        """
        if _FORM.fullmatch(refresh_token):
            await self._tokens.revoke_family(digest_of(refresh_token), audit=audit)

    def _session(
        self,
        user_id: str,
        email: str,
        created_at: float,
        issue: Callable[[str], str],
        refresh_token: str,
    ) -> Session:
        lifetime = int(self._access.terms.lifetime_seconds)
        return Session(issue(user_id), refresh_token, lifetime, user_id, email, created_at)

    def _expiry(self) -> float:
        return self._clock() + self._lifetime_seconds


def digest_of(refresh_token: str) -> bytes:
    """Return what is stored of a refresh token. It is random: a fast hash without salt suffices."""
    return hashlib.sha256(refresh_token.encode("ascii")).digest()


def session_ended() -> Unauthenticated:
    """Return the error for a refresh token that is not valid, for any cause."""
    return Unauthenticated(
        "SESSION_ENDED", "The refresh token is not valid or was used before; log in again."
    )


def wrong_credentials() -> Unauthenticated:
    """Return the error for a log-in, whether the email is unknown or the password is wrong."""
    return Unauthenticated(
        "WRONG_CREDENTIALS", "Email or password is wrong; correct them, or register."
    )


def _new_refresh_token() -> str:
    return _PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
