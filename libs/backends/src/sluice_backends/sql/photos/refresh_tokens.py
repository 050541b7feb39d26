"""Refresh tokens in SQL: rotation within families, under the lock of the family's first token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Row, bindparam, delete, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.audit import append_entries
from sluice_backends.sql.database import Database, SqlFamily, transaction
from sluice_backends.sql.schema import refresh_tokens, users
from sluice_core.access.audit import AuditEntry
from sluice_core.errors import NotFound
from sluice_core.ports.refresh_tokens import Rotation, RotationState
from sluice_core.ports.users import UserStatus

_LOCK_USER = (
    select(users.c.user_id)
    .where(
        users.c.user_id == bindparam("p_user"), users.c.status == literal(UserStatus.ACTIVE.value)
    )
    .with_for_update(read=True)
)
_ADD = insert(refresh_tokens)
_FIND = select(refresh_tokens).where(refresh_tokens.c.token_hash == bindparam("p_hash"))
_LOCK = _FIND.with_for_update()
_USE = (
    update(refresh_tokens)
    .where(refresh_tokens.c.token_hash == bindparam("p_hash"))
    .values(used_at=bindparam("p_now"))
)
_NEWEST = (
    select(refresh_tokens.c.token_hash, refresh_tokens.c.created_at, refresh_tokens.c.used_at)
    .where(refresh_tokens.c.family_id == bindparam("p_family"))
    .order_by(refresh_tokens.c.created_at.desc(), refresh_tokens.c.used_at)  # NULL first
    .limit(1)
)
_EXTEND = (
    update(refresh_tokens)
    .where(refresh_tokens.c.token_hash == bindparam("p_root"))
    .values(family_expires_at=bindparam("p_expires_at"))
)
_REVOKE = (
    update(refresh_tokens)
    .where(refresh_tokens.c.token_hash == bindparam("p_root"))
    .values(revoked_at=bindparam("p_now"))
)
_ROOTS_OF_USER = (
    select(refresh_tokens.c.token_hash)
    .where(
        refresh_tokens.c.user_id == bindparam("p_user"),
        refresh_tokens.c.token_hash == refresh_tokens.c.family_id,
        refresh_tokens.c.revoked_at.is_(None),
    )
    .order_by(refresh_tokens.c.token_hash)
)
_EXPIRED_ROOTS = (
    select(refresh_tokens.c.token_hash)
    .where(refresh_tokens.c.family_expires_at < bindparam("p_now"))
    .order_by(refresh_tokens.c.family_expires_at)
    .limit(bindparam("p_limit"))
)
_DROP_FAMILY = delete(refresh_tokens).where(refresh_tokens.c.family_id == bindparam("p_family"))


class SqlRefreshTokens(SqlFamily):
    """The catalogue's family of refresh tokens."""

    @transaction
    async def begin_family(
        self,
        connection: AsyncConnection,
        token_hash: bytes,
        user_id: str,
        expires_at: float,
        *,
        audit: AuditEntry | None = None,
    ) -> None:
        # The lock excludes a concurrent revocation of all families, which would miss this one.
        if (await connection.execute(_LOCK_USER, {"p_user": user_id})).first() is None:
            raise NotFound("USER_NOT_FOUND", "There is no active user with this id.")
        now = await self._db.now(connection)
        root = _columns(token_hash, token_hash, user_id, now, expires_at)
        await connection.execute(_ADD, {**root, "family_expires_at": expires_at})
        await append_entries(self._db, connection, audit)

    @transaction
    async def rotate_token(
        self,
        connection: AsyncConnection,
        token_hash: bytes,
        next_hash: bytes,
        next_expires_at: float,
        *,
        repeat_seconds: float = 0.0,
        audit_reuse: AuditEntry | None = None,
    ) -> Rotation:
        root = await _lock_family(connection, token_hash)
        if root is None:
            return Rotation(RotationState.UNKNOWN)
        token = (await connection.execute(_FIND, {"p_hash": token_hash})).one_or_none()
        if token is None:  # purged while this waited for the lock
            return Rotation(RotationState.UNKNOWN)
        user_id: str = root.user_id
        now = await self._db.now(connection)
        if root.revoked_at is not None:
            return Rotation(RotationState.REVOKED, user_id)
        used_at, unused = token.used_at, None
        if used_at is not None:
            unused = await _unused_successor(connection, token)
            if unused is None or now - used_at >= repeat_seconds:
                await connection.execute(_REVOKE, {"p_root": root.token_hash, "p_now": now})
                await append_entries(self._db, connection, _of_user(audit_reuse, user_id))
                return Rotation(RotationState.REUSED, user_id)
        if token.expires_at <= now:
            return Rotation(RotationState.EXPIRED, user_id)
        # One token counts as used from now on: this one, or the successor that nobody got.
        await connection.execute(_USE, {"p_hash": unused or token_hash, "p_now": now})
        made_at = now if used_at is None else used_at
        columns = _columns(next_hash, root.token_hash, user_id, made_at, next_expires_at)
        await connection.execute(_ADD, {**columns, "family_expires_at": None})
        await connection.execute(
            _EXTEND, {"p_root": root.token_hash, "p_expires_at": next_expires_at}
        )
        return Rotation(
            RotationState.ROTATED if unused is None else RotationState.REPEATED, user_id
        )

    @transaction
    async def revoke_family(
        self, connection: AsyncConnection, token_hash: bytes, *, audit: AuditEntry | None = None
    ) -> None:
        root = await _lock_family(connection, token_hash)
        if root is not None and root.revoked_at is None:
            now = await self._db.now(connection)
            await connection.execute(_REVOKE, {"p_root": root.token_hash, "p_now": now})
            await append_entries(self._db, connection, _of_user(audit, root.user_id))

    @transaction
    async def revoke_tokens_of(
        self, connection: AsyncConnection, user_id: str, *, audit: AuditEntry | None = None
    ) -> None:
        await revoke_families_of(self._db, connection, user_id)
        await append_entries(self._db, connection, audit)

    @transaction
    async def purge_token_families(self, connection: AsyncConnection, limit: int) -> int:
        parameters = {"p_now": await self._db.now(connection), "p_limit": limit}
        families = (await connection.execute(_EXPIRED_ROOTS, parameters)).scalars().all()
        for family in families:
            await connection.execute(_DROP_FAMILY, {"p_family": family})
        return len(families)


async def revoke_families_of(database: Database, connection: AsyncConnection, user_id: str) -> None:
    """Revoke every family of the user, in the transaction that makes the change."""
    now = await database.now(connection)
    roots = (await connection.execute(_ROOTS_OF_USER, {"p_user": user_id})).scalars().all()
    for root in roots:
        await connection.execute(_REVOKE, {"p_root": root, "p_now": now})


def _of_user(audit: AuditEntry | None, user_id: str) -> AuditEntry | None:
    """Return the entry with the user, who is also the tenant."""
    return None if audit is None else replace(audit, tenant=user_id, subject=user_id)


async def _lock_family(connection: AsyncConnection, token_hash: bytes) -> Row[Any] | None:
    """Lock the first token of this token's family and return it; None for an unknown token.

    All changes of a family hold this lock, so that no rotation misses a revocation.
    """
    token = (await connection.execute(_FIND, {"p_hash": token_hash})).one_or_none()
    if token is None:
        return None
    return (await connection.execute(_LOCK, {"p_hash": token.family_id})).one_or_none()


async def _unused_successor(connection: AsyncConnection, token: Row[Any]) -> bytes | None:
    """Return the token that replaced a used one, while it is the newest and nobody has used it.

    Its time of creation is that of the token's first use, by which it is known. A replaced
    successor is used later than that, and so has none itself.
    """
    newest = (await connection.execute(_NEWEST, {"p_family": token.family_id})).one()
    if newest.used_at is not None or newest.created_at != token.used_at:
        return None
    successor: bytes = newest.token_hash
    return successor


def _columns(
    token_hash: bytes, family_id: bytes, user_id: str, now: float, expires_at: float
) -> dict[str, Any]:
    return {
        "token_hash": token_hash,
        "family_id": family_id,
        "user_id": user_id,
        "created_at": now,
        "expires_at": expires_at,
        "used_at": None,
        "revoked_at": None,
    }
