"""Drives in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    String,
    bindparam,
    func,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.rows import drive_columns, drive_of
from sluice_backends.sql.schema import MAX_KEY_BYTES, Exact, drives
from sluice_core.errors import AlreadyExists, NotFound
from sluice_core.ports.catalogue import POLICY_FIELDS, Drive, DrivePage, DrivePolicy

_FIND = select(drives).where(
    drives.c.tenant == bindparam("p_tenant"), drives.c.name == bindparam("p_name")
)
_LOCK = _FIND.with_for_update()
_NAMED = select(drives).where(
    drives.c.name == bindparam("p_name"),
    drives.c.tenant.in_(bindparam("p_tenants", expanding=True)),
)
_ROOT: ColumnElement[str] = bindparam("p_root", type_=Exact(MAX_KEY_BYTES))
_TENANT_AREA = drives.c.key_prefix + type_coerce(drives.c.tenant, String) + "/"
_DRIVE_AREA = _TENANT_AREA + drives.c.name + "/"
_OVERLAPPING = select(drives).where(
    drives.c.tenant != bindparam("p_tenant"),
    drives.c.bucket.in_(bindparam("p_buckets", expanding=True)),
    or_(
        func.substr(_ROOT, 1, func.length(_TENANT_AREA)) == _TENANT_AREA,
        func.substr(_DRIVE_AREA, 1, func.length(_ROOT)) == _ROOT,
    ),
)
_LIST = (
    select(drives)
    .where(drives.c.tenant == bindparam("p_tenant"), drives.c.name > bindparam("p_after"))
    .order_by(drives.c.name)
    .limit(bindparam("p_limit"))
)


class SqlDrives(SqlFamily):
    """The catalogue's family of drives."""

    @transaction
    async def create_drive(
        self,
        connection: AsyncConnection,
        tenant: str,
        name: str,
        bucket: str,
        key_prefix: str,
        policy: DrivePolicy,
    ) -> Drive:
        now = self._db.clock()
        created = await self._db.dialect.insert_if_absent(
            connection,
            drives,
            {
                "tenant": tenant,
                "name": name,
                "bucket": bucket,
                "key_prefix": key_prefix,
                **drive_columns(policy),
                "created_at": now,
                "updated_at": now,
            },
        )
        drive = drive_of(await find_drive(connection, tenant, name))
        requested = (bucket, key_prefix, policy)
        if not created and (drive.bucket, drive.key_prefix, drive.policy) != requested:
            raise AlreadyExists(
                "DRIVE_EXISTS",
                f"The drive {name!r} exists with other settings; use it, or choose another name.",
                field="name",
            )
        return drive

    async def get_drive(self, tenant: str, name: str) -> Drive:
        async with self._db.read() as connection:
            return drive_of(await find_drive(connection, tenant, name))

    async def drives_named(self, name: str, tenants: Sequence[str]) -> Sequence[Drive]:
        parameters = {"p_name": name, "p_tenants": list(tenants)}
        async with self._db.read() as connection:
            return [drive_of(row) for row in await connection.execute(_NAMED, parameters)]

    async def drives_overlapping(
        self, tenant: str, name: str, buckets: Sequence[str], key_prefix: str
    ) -> Sequence[Drive]:
        parameters = {
            "p_tenant": tenant,
            "p_buckets": list(buckets),
            "p_root": f"{key_prefix}{tenant}/{name}/",
        }
        async with self._db.read() as connection:
            return [drive_of(row) for row in await connection.execute(_OVERLAPPING, parameters)]

    async def list_drives(self, tenant: str, limit: int, after: str) -> DrivePage:
        parameters = {"p_tenant": tenant, "p_after": after, "p_limit": limit + 1}
        async with self._db.read() as connection:
            rows = (await connection.execute(_LIST, parameters)).all()
        page = tuple(drive_of(row) for row in rows[:limit])
        return DrivePage(page, page[-1].name if len(rows) > limit else "")

    @transaction
    async def update_drive(
        self,
        connection: AsyncConnection,
        tenant: str,
        name: str,
        policy: DrivePolicy,
        fields: frozenset[str] = POLICY_FIELDS,
    ) -> Drive:
        columns = drive_columns(policy)  # named like the fields of the policy
        changes = {column: columns[column] for column in fields}
        row = await find_drive(connection, tenant, name, lock=True)
        await connection.execute(
            update(drives).where(drives.c.drive_id == row.drive_id),
            {**changes, "updated_at": self._db.clock()},
        )
        return drive_of(await find_drive(connection, tenant, name))


async def find_drive(
    connection: AsyncConnection, tenant: str, name: str, *, lock: bool = False
) -> Row[Any]:
    """Return the row of a drive. Raise `NotFound` DRIVE_NOT_FOUND."""
    statement = _LOCK if lock else _FIND
    result = await connection.execute(statement, {"p_tenant": tenant, "p_name": name})
    row = result.one_or_none()
    if row is None:
        raise NotFound(
            "DRIVE_NOT_FOUND", f"There is no drive {name!r}; create it first.", field="drive"
        )
    return row
