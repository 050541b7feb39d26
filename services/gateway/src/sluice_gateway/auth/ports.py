"""What accounts need of the catalogue, and what a new user gets."""

from __future__ import annotations

from typing import Protocol

from sluice_core.access.audit import AuditEntry
from sluice_core.ports.refresh_tokens import Rotation
from sluice_core.ports.users import User


class Users(Protocol):
    """The part of `UserCatalogue` that registration and log-in use."""

    async def add_user(self, user_id: str, email: str, password_hash: str) -> bool: ...

    async def find_user(self, email: str) -> User | None: ...

    async def get_user(self, user_id: str) -> User | None: ...


class RefreshTokens(Protocol):
    """The part of `RefreshTokenCatalogue` that sessions use."""

    async def begin_family(
        self,
        token_hash: bytes,
        user_id: str,
        expires_at: float,
        *,
        audit: AuditEntry | None = None,
    ) -> None: ...

    async def rotate_token(
        self,
        token_hash: bytes,
        next_hash: bytes,
        next_expires_at: float,
        *,
        repeat_seconds: float = 0.0,
        audit_reuse: AuditEntry | None = None,
    ) -> Rotation: ...

    async def revoke_family(
        self, token_hash: bytes, *, audit: AuditEntry | None = None
    ) -> None: ...


class Homes(Protocol):
    """The place where a user's photos go."""

    async def prepare_home(self, user_id: str) -> None:
        """Create the user's drive unless it exists."""
        ...
