"""Ports of the accounts: users, refresh tokens, and what a new user gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who registered by email. Their tenant has the same id.

    email: normalized, see `names.normalize_email`.
    password_hash: in PHC form.
    created_at: Unix seconds.
    """

    user_id: str
    email: str
    password_hash: str = field(repr=False)
    created_at: float
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One refresh token. `digest` is the SHA-256 of its text, which is stored nowhere.

    family: shared by the tokens that one log-in leads to.
    expires_at: Unix seconds.
    """

    digest: str
    family: str
    user_id: str
    expires_at: float


class Outcome(StrEnum):
    """What became of a rotation."""

    ROTATED = "rotated"
    REUSED = "reused"
    """The token was replaced before: its family is revoked now."""
    UNKNOWN = "unknown"
    """There is no such token, or it has expired, or its family was revoked."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """`user_id` and `family` are empty for an unknown token."""

    outcome: Outcome
    user_id: str = ""
    family: str = ""


class Users(Protocol):
    """Users by id and by email."""

    async def create_user(self, user: User) -> bool:
        """Add a user; return False, with nothing done, if the email or the id is taken.

        Of concurrent calls with one email exactly one returns True.
        """
        ...

    async def find_by_email(self, email: str) -> User | None: ...

    async def find_by_id(self, user_id: str) -> User | None: ...


class RefreshTokens(Protocol):
    """Refresh tokens by their digests."""

    async def issue(self, token: RefreshToken) -> None:
        """Add the first token of a family."""
        ...

    async def rotate(self, digest: str, successor: str, expires_at: float, now: float) -> Rotation:
        """Replace a token by its successor in the same family, in one transaction.

        Of concurrent calls with one digest exactly one is ROTATED. Any other one is REUSED and
        revokes the family, the successor included.

        Args:
            successor: the digest of the new token.
            expires_at: of the new token, Unix seconds.
            now: Unix seconds.
        """
        ...

    async def revoke_family(self, digest: str) -> None:
        """Revoke the family of a token, whether that was replaced or not; no-op if unknown."""
        ...

    async def forget_expired(self, now: float, limit: int) -> int:
        """Delete up to `limit` tokens that expired; return their number."""
        ...


class Homes(Protocol):
    """The place where a user's photos go."""

    async def prepare_home(self, user_id: str) -> None:
        """Create the user's drive unless it exists."""
        ...
