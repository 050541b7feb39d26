"""Catalogue port: refresh tokens, which rotate within families (RFC 9700, 4.14)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from sluice_core.access.audit import AuditEntry


class RotationState(Enum):
    ROTATED = auto()
    REPEATED = auto()
    """Rotated once more: its successor is replaced, whose answer was lost."""
    UNKNOWN = auto()
    EXPIRED = auto()
    REVOKED = auto()
    """Its family was revoked before."""
    REUSED = auto()
    """It was used before: somebody else has it too. The family is revoked now."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What became of a token that somebody presented. `user_id`: empty if it is UNKNOWN."""

    state: RotationState
    user_id: str = ""


class RefreshTokenCatalogue(Protocol):
    """Refresh tokens by the SHA-256 of their text: the catalogue knows no token.

    A log-in begins a family. Each token is good for one rotation, which replaces it. `expires_at`
    is in Unix seconds of the database's clock, see `ObjectCatalogue.now`.
    """

    async def begin_family(
        self,
        token_hash: bytes,
        user_id: str,
        expires_at: float,
        *,
        audit: AuditEntry | None = None,
    ) -> None:
        """Add the first token of a new family, and append `audit`.

        Raise `NotFound` USER_NOT_FOUND, also for a DISABLED user, so that none outlives the status.
        """
        ...

    async def rotate_token(
        self,
        token_hash: bytes,
        next_hash: bytes,
        next_expires_at: float,
        *,
        repeat_seconds: float = 0.0,
        audit_reuse: AuditEntry | None = None,
    ) -> Rotation:
        """Replace a token by the next one of its family.

        Of concurrent calls with one token the first is ROTATED; the others are REUSED and revoke
        the family, so that a thief and the owner both have to log in. Within `repeat_seconds` of
        the first call with a token, as long as nobody has used its successor, it is REPEATED
        instead: the successor counts as used, and the next one is in its place.

        `audit_reuse` is appended if the call revokes the family, with its user as tenant and
        subject.
        """
        ...

    async def revoke_family(self, token_hash: bytes, *, audit: AuditEntry | None = None) -> None:
        """Revoke the family of this token, used or not. No-op for an unknown token.

        `audit` is appended if the family was not revoked, with its user as tenant and subject.
        """
        ...

    async def revoke_tokens_of(self, user_id: str, *, audit: AuditEntry | None = None) -> None:
        """Revoke every family of the user, and append `audit`."""
        ...

    async def purge_token_families(self, limit: int) -> int:
        """Delete families whose last token has expired, at most `limit`; return how many."""
        ...
