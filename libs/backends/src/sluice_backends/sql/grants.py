"""Grants of drives in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.audit import append_entries
from sluice_backends.sql.database import Database, SqlFamily, transaction
from sluice_backends.sql.rows import grant_of
from sluice_backends.sql.schema import drive_grants, drives
from sluice_core.access.audit import AuditEntry
from sluice_core.access.grants import MAX_GRANTS, Grant, Grantee, Role
from sluice_core.errors import FailedPrecondition, NotFound
from sluice_core.ports.grants import GrantPage

FIND_DRIVE = select(drives).where(
    drives.c.deleted_at.is_(None),
    drives.c.tenant == bindparam("p_tenant"),
    drives.c.name == bindparam("p_name"),
)
_LOCK_DRIVE = FIND_DRIVE.with_for_update()
_SHARE_DRIVE = FIND_DRIVE.with_for_update(read=True)

_OF_DRIVE = drive_grants.c.drive_id == bindparam("p_drive_id")
_OF_GRANTEE = and_(
    _OF_DRIVE,
    drive_grants.c.kind == bindparam("p_kind"),
    drive_grants.c.grantee == bindparam("p_grantee"),
)
_FIND = select(drive_grants).where(_OF_GRANTEE)
_COUNT = select(func.count()).select_from(drive_grants).where(_OF_DRIVE)
_CHANGE = (
    update(drive_grants)
    .where(_OF_GRANTEE)
    .values(role=bindparam("p_role"), created_at=bindparam("p_now"))
)
_REMOVE = delete(drive_grants).where(_OF_GRANTEE)
_LIST = (
    select(drive_grants)
    .where(_OF_DRIVE)
    .order_by(drive_grants.c.kind, drive_grants.c.grantee)
    .limit(bindparam("p_limit"))
)
_LIST_AFTER = _LIST.where(
    or_(
        drive_grants.c.kind > bindparam("p_kind"),
        and_(
            drive_grants.c.kind == bindparam("p_kind"),
            drive_grants.c.grantee > bindparam("p_grantee"),
        ),
    )
)


class SqlGrants(SqlFamily):
    """The catalogue's family of grants."""

    @transaction
    async def put_grant(
        self,
        connection: AsyncConnection,
        tenant: str,
        drive: str,
        grantee: Grantee,
        role: Role,
        *,
        audit: AuditEntry | None = None,
    ) -> Grant:
        # Locked, so that concurrent calls cannot exceed the limit together.
        row = await find_drive(connection, tenant, drive, lock=True)
        return await put_grant(self._db, connection, row.drive_id, grantee, role, audit)

    @transaction
    async def remove_grant(
        self,
        connection: AsyncConnection,
        tenant: str,
        drive: str,
        grantee: Grantee,
        *,
        audit: AuditEntry | None = None,
    ) -> None:
        row = await find_drive(connection, tenant, drive, lock=True)
        removed = await connection.execute(_REMOVE, _key(row.drive_id, grantee))
        if removed.rowcount:
            await append_entries(self._db, connection, audit)

    async def grants_of(self, tenant: str, drive: str) -> Sequence[Grant]:
        return (await self.list_grants(tenant, drive, MAX_GRANTS, None)).grants

    async def list_grants(
        self, tenant: str, drive: str, limit: int, after: Grantee | None
    ) -> GrantPage:
        async with self._db.read() as connection:
            row = await find_drive(connection, tenant, drive)
            parameters: dict[str, Any] = {"p_drive_id": row.drive_id, "p_limit": limit + 1}
            statement = _LIST
            if after is not None:
                statement = _LIST_AFTER
                parameters |= _key(row.drive_id, after)
            rows = (await connection.execute(statement, parameters)).all()
        page = tuple(grant_of(one) for one in rows[:limit])
        return GrantPage(page, page[-1].grantee if len(rows) > limit else None)


async def put_grant(
    database: Database,
    connection: AsyncConnection,
    drive_id: int,
    grantee: Grantee,
    role: Role,
    audit: AuditEntry | None = None,
) -> Grant:
    """Insert or change a grant of a drive whose row is locked or new.

    Args:
        audit: entry to append if anything changes.
    """
    now = database.clock()
    key = _key(drive_id, grantee)
    found = (await connection.execute(_FIND, key)).one_or_none()
    if found is not None:
        grant = grant_of(found)
        if grant.role == role:
            return grant
        await connection.execute(_CHANGE, {**key, "p_role": int(role), "p_now": now})
    else:
        if (await connection.execute(_COUNT, key)).scalar_one() >= MAX_GRANTS:
            raise FailedPrecondition(
                "TOO_MANY_GRANTS",
                f"The drive has {MAX_GRANTS} grants; revoke some, or grant the role to a group.",
                field="grantee",
            )
        await database.dialect.insert_if_absent(
            connection,
            drive_grants,
            {
                "drive_id": drive_id,
                "kind": grantee.kind.value,
                "grantee": grantee.name,
                "role": int(role),
                "created_at": now,
            },
        )
    await append_entries(database, connection, audit)
    return grant_of((await connection.execute(_FIND, key)).one())


async def find_drive(
    connection: AsyncConnection,
    tenant: str,
    name: str,
    *,
    lock: bool = False,
    share: bool = False,
) -> Row[Any]:
    """Return the row of a drive. Raises `NotFound` DRIVE_NOT_FOUND.

    Args:
        lock: lock the row, so that no node is committed to the drive meanwhile.
        share: lock the row in shared mode, so that the drive is not deleted meanwhile.
    """
    statement = _LOCK_DRIVE if lock else _SHARE_DRIVE if share else FIND_DRIVE
    result = await connection.execute(statement, {"p_tenant": tenant, "p_name": name})
    row = result.one_or_none()
    if row is None:
        raise drive_not_found(name)
    return row


def drive_not_found(name: str) -> NotFound:
    return NotFound(
        "DRIVE_NOT_FOUND", f"There is no drive {name!r}; create it first.", field="drive"
    )


def _key(drive_id: int, grantee: Grantee) -> dict[str, Any]:
    return {
        "p_drive_id": drive_id,
        "p_kind": grantee.kind.value,
        "p_grantee": grantee.name,
    }
