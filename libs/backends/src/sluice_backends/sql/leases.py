"""Named leases in SQL: one holder at a time by the database's clock (rule 15)."""

from __future__ import annotations

from sqlalchemy import delete, literal, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.schema import Micros, leases


class SqlLeases(SqlFamily):
    """The catalogue's family of leases."""

    @transaction
    async def hold_lease(
        self, connection: AsyncConnection, name: str, holder: str, seconds: float
    ) -> bool:
        now = self._db.dialect.now()
        expires_at = now + literal(seconds, Micros)
        taken = await connection.execute(
            update(leases)
            .where(
                leases.c.name == name,
                or_(leases.c.holder == holder, leases.c.expires_at <= now),
            )
            .values(holder=holder, expires_at=expires_at)
        )
        if taken.rowcount == 1:
            return True
        # Held by another, or never acquired: the insert succeeds only for the latter.
        return await self._db.dialect.insert_if_absent(
            connection, leases, {"name": name, "holder": holder}, {"expires_at": expires_at}
        )

    @transaction
    async def release_lease(self, connection: AsyncConnection, name: str, holder: str) -> None:
        await connection.execute(
            delete(leases).where(leases.c.name == name, leases.c.holder == holder)
        )
