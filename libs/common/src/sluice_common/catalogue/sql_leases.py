"""Named leases in SQL: one holder at a time, by the database's clock (rule 15)."""

from __future__ import annotations

from sqlalchemy import delete, literal, or_, update

from sluice_common.catalogue.database import SqlFamily
from sluice_common.catalogue.schema import Micros, leases


class SqlLeases(SqlFamily):
    """The catalogue's family of leases."""

    async def hold_lease(self, name: str, holder: str, seconds: float) -> bool:
        async with self._db.write() as connection:
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
            # Held by another, or never taken: the insert tells which.
            made = await connection.execute(
                self._db.dialect.insert_if_absent(leases).values(
                    name=name, holder=holder, expires_at=expires_at
                )
            )
            return made.rowcount == 1

    async def release_lease(self, name: str, holder: str) -> None:
        async with self._db.write() as connection:
            await connection.execute(
                delete(leases).where(leases.c.name == name, leases.c.holder == holder)
            )
