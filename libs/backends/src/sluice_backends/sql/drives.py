"""Drives in SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    String,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.audit import append_entries
from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.grants import FIND_DRIVE, drive_not_found, find_drive, put_grant
from sluice_backends.sql.quotas import drop_quota
from sluice_backends.sql.rows import drive_columns, drive_of
from sluice_backends.sql.schema import MAX_KEY_BYTES, Exact, drive_grants, drives, paths, quotas
from sluice_backends.sql.usage import TENANT_ROW, drop_usage
from sluice_core.access.actions import Action
from sluice_core.access.audit import AuditEntry, grant_object, policy_object
from sluice_core.access.grants import Access, Grantee, GranteeKind, Role
from sluice_core.errors import AlreadyExists, FailedPrecondition
from sluice_core.ports.catalogue import POLICY_FIELDS, Drive, DrivePage, DrivePolicy

_TOMBSTONE_MARK = "~"
"""First character of the name of a deleted drive; no drive's name can begin with it."""

_EXISTS = drives.c.deleted_at.is_(None)
_GET = FIND_DRIVE.add_columns(
    exists()
    .where(
        quotas.c.tenant == drives.c.tenant,
        quotas.c.drive_id.in_((literal(TENANT_ROW), drives.c.drive_id)),
    )
    .label("has_quota")
)
_NAMED = select(drives).where(
    _EXISTS,
    drives.c.name == bindparam("p_name"),
    drives.c.tenant.in_(bindparam("p_tenants", expanding=True)),
)
_ROOT: ColumnElement[str] = bindparam("p_root", type_=Exact(MAX_KEY_BYTES))
_TENANT_AREA = drives.c.key_prefix + type_coerce(drives.c.tenant, String) + "/"
_DRIVE_AREA = _TENANT_AREA + drives.c.name + "/"
_OVERLAPPING = select(drives).where(
    _EXISTS,
    drives.c.tenant != bindparam("p_tenant"),
    drives.c.bucket.in_(bindparam("p_buckets", expanding=True)),
    or_(
        func.substr(_ROOT, 1, func.length(_TENANT_AREA)) == _TENANT_AREA,
        func.substr(_DRIVE_AREA, 1, func.length(_ROOT)) == _ROOT,
    ),
)
_LIST = (
    select(drives)
    .where(_EXISTS, drives.c.tenant == bindparam("p_tenant"), drives.c.name > bindparam("p_after"))
    .order_by(drives.c.name)
    .limit(bindparam("p_limit"))
)
_LIST_VISIBLE = _LIST.where(
    or_(
        drives.c.access == literal(Access.TENANT.value),
        exists().where(
            drive_grants.c.drive_id == drives.c.drive_id,
            or_(
                *(
                    and_(
                        drive_grants.c.kind == literal(kind.value),
                        drive_grants.c.grantee.in_(bindparam(f"p_{kind.value}", expanding=True)),
                    )
                    for kind in GranteeKind
                )
            ),
        ),
    )
)
_HAS_NODES = select(exists().where(paths.c.drive_id == bindparam("p_drive_id")))
_REVOKE_ALL = delete(drive_grants).where(drive_grants.c.drive_id == bindparam("p_drive_id"))


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
        *,
        owner: Grantee | None = None,
        audit: AuditEntry | None = None,
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
        row = await find_drive(connection, tenant, name)
        drive = drive_of(row)
        if created:
            entry = _policy_entry(audit, name, DrivePolicy(), policy)
            await append_entries(self._db, connection, entry)
        if created and owner is not None:
            await self._put_owner(connection, row.drive_id, name, owner, audit)
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
            parameters = {"p_tenant": tenant, "p_name": name}
            row = (await connection.execute(_GET, parameters)).one_or_none()
        if row is None:
            raise drive_not_found(name)
        return replace(drive_of(row), has_quota=bool(row.has_quota))

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

    async def list_drives(
        self, tenant: str, limit: int, after: str, visible_to: Collection[Grantee] | None = None
    ) -> DrivePage:
        parameters: dict[str, Any] = {"p_tenant": tenant, "p_after": after, "p_limit": limit + 1}
        statement = _LIST
        if visible_to is not None:
            statement = _LIST_VISIBLE
            for kind in GranteeKind:
                parameters[f"p_{kind.value}"] = [one.name for one in visible_to if one.kind == kind]
        async with self._db.read() as connection:
            rows = (await connection.execute(statement, parameters)).all()
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
        *,
        owner: Grantee | None = None,
        audit: AuditEntry | None = None,
    ) -> Drive:
        columns = drive_columns(policy)  # named like the fields of the policy
        changes = {column: columns[column] for column in fields}
        row = await find_drive(connection, tenant, name, lock=True)
        await connection.execute(
            update(drives).where(drives.c.drive_id == row.drive_id),
            {**changes, "updated_at": self._db.clock()},
        )
        former, changed = drive_of(row), drive_of(await find_drive(connection, tenant, name))
        if changed.policy != former.policy:
            entry = _policy_entry(audit, name, former.policy, changed.policy)
            await append_entries(self._db, connection, entry)
        was_open = former.access is Access.TENANT
        if owner is not None and was_open and changed.access is Access.GRANTS:
            await self._put_owner(connection, row.drive_id, name, owner, audit)
        return changed

    async def _put_owner(
        self,
        connection: AsyncConnection,
        drive_id: int,
        name: str,
        owner: Grantee,
        audit: AuditEntry | None,
    ) -> None:
        """Insert the grant that a change implies, with an entry like that of GrantDrive."""
        if audit is not None:
            audit = replace(
                audit,
                action=Action.GRANT_DRIVE.value,
                object=grant_object(name, owner, Role.OWNER),
            )
        await put_grant(self._db, connection, drive_id, owner, Role.OWNER, audit)

    @transaction
    async def delete_drive(
        self,
        connection: AsyncConnection,
        tenant: str,
        name: str,
        *,
        audit: AuditEntry | None = None,
    ) -> None:
        # Waits for running commits to the drive, which lock its row in shared mode. Later ones find
        # it deleted.
        row = await find_drive(connection, tenant, name, lock=True)
        key = {"p_drive_id": row.drive_id}
        if (await connection.execute(_HAS_NODES, key)).scalar_one():
            raise FailedPrecondition(
                "DRIVE_NOT_EMPTY",
                f"The drive {name!r} has nodes; delete them first.",
                field="name",
            )
        await connection.execute(_REVOKE_ALL, key)
        await drop_quota(connection, tenant, row.drive_id)
        await drop_usage(connection, row.drive_id)
        now = self._db.clock()
        await connection.execute(
            update(drives).where(drives.c.drive_id == row.drive_id),
            {"name": f"{_TOMBSTONE_MARK}{row.drive_id}", "deleted_at": now, "updated_at": now},
        )
        await append_entries(self._db, connection, audit)


def _policy_entry(
    audit: AuditEntry | None, name: str, former: DrivePolicy, policy: DrivePolicy
) -> AuditEntry | None:
    """Return the entry with what differs from the former policy as its object."""
    if audit is None:
        return None
    values = {field: getattr(policy, field) for field in POLICY_FIELDS}
    changed = {field: value for field, value in values.items() if value != getattr(former, field)}
    return replace(audit, object=policy_object(name, changed))
