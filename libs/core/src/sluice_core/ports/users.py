"""Catalogue port: people who registered here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sluice_core.access.audit import AuditEntry


class UserStatus(StrEnum):
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"
    """May not log in."""


@dataclass(frozen=True, slots=True)
class User:
    """A registered user. Times are Unix seconds."""

    user_id: str
    """Also the name of the user's own tenant, so it has the form of one."""
    email: str
    """Compared bytewise, at most 254 bytes (RFC 5321, 4.5.3): normalize it before."""
    password_hash: str
    """Encoded with its parameters, at most 255 characters. A secret: never log it."""
    status: UserStatus
    created_at: float
    updated_at: float


class UserCatalogue(Protocol):
    """Users. Who signs in with OpenID Connect has no row here."""

    async def add_user(self, user_id: str, email: str, password_hash: str) -> bool:
        """Add an ACTIVE user; False, with nothing done, if the email or the id is taken."""
        ...

    async def find_user(self, email: str) -> User | None:
        """Return the user with this email, DISABLED ones included."""
        ...

    async def get_user(self, user_id: str) -> User | None: ...

    async def set_password_hash(
        self, user_id: str, password_hash: str, *, audit: AuditEntry | None = None
    ) -> bool:
        """Replace the hash, revoke all refresh tokens and append `audit`.

        False for an unknown user.
        """
        ...

    async def set_user_status(
        self, user_id: str, status: UserStatus, *, audit: AuditEntry | None = None
    ) -> bool:
        """Set the status and append `audit`; False for an unknown user.

        DISABLED revokes all refresh tokens.
        """
        ...
