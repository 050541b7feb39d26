"""Users in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.audit import append_entries
from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.photos.refresh_tokens import revoke_families_of
from sluice_backends.sql.schema import users
from sluice_core.access.audit import AuditEntry
from sluice_core.ports.users import User, UserStatus

_BY_EMAIL = select(users).where(users.c.email == bindparam("p_email"))
_BY_ID = select(users).where(users.c.user_id == bindparam("p_user"))
_CHANGE = update(users).where(users.c.user_id == bindparam("p_user"))


class SqlUsers(SqlFamily):
    """The catalogue's family of users."""

    @transaction
    async def add_user(
        self, connection: AsyncConnection, user_id: str, email: str, password_hash: str
    ) -> bool:
        now = self._db.clock()
        return await self._db.dialect.insert_if_absent(
            connection,
            users,
            {
                "user_id": user_id,
                "email": email,
                "password_hash": password_hash,
                "status": UserStatus.ACTIVE.value,
                "created_at": now,
                "updated_at": now,
            },
        )

    async def find_user(self, email: str) -> User | None:
        return await self._find(_BY_EMAIL, {"p_email": email})

    async def get_user(self, user_id: str) -> User | None:
        return await self._find(_BY_ID, {"p_user": user_id})

    @transaction
    async def set_password_hash(
        self,
        connection: AsyncConnection,
        user_id: str,
        password_hash: str,
        *,
        audit: AuditEntry | None = None,
    ) -> bool:
        changes = {"password_hash": password_hash, "updated_at": self._db.clock()}
        result = await connection.execute(_CHANGE, {"p_user": user_id, **changes})
        if result.rowcount != 1:
            return False
        await revoke_families_of(self._db, connection, user_id)
        await append_entries(self._db, connection, audit)
        return True

    @transaction
    async def set_user_status(
        self,
        connection: AsyncConnection,
        user_id: str,
        status: UserStatus,
        *,
        audit: AuditEntry | None = None,
    ) -> bool:
        changes = {"status": status.value, "updated_at": self._db.clock()}
        # Locks the user's row, so that a log-in either sees the status or is revoked with the rest.
        result = await connection.execute(_CHANGE, {"p_user": user_id, **changes})
        if result.rowcount != 1:
            return False
        if status is UserStatus.DISABLED:
            await revoke_families_of(self._db, connection, user_id)
        await append_entries(self._db, connection, audit)
        return True

    async def _find(self, statement: Select[Any], parameters: dict[str, str]) -> User | None:
        async with self._db.read() as connection:
            row = (await connection.execute(statement, parameters)).one_or_none()
        if row is None:
            return None
        return User(
            user_id=row.user_id,
            email=row.email,
            password_hash=row.password_hash,
            status=UserStatus(row.status),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
