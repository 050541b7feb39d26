"""Quotas in SQL: limits and reservations (ADR 0024)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import (
    Row,
    and_,
    bindparam,
    delete,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.audit import append_entries
from sluice_backends.sql.database import Database, SqlFamily, transaction
from sluice_backends.sql.dialect import Step
from sluice_backends.sql.grants import find_drive
from sluice_backends.sql.schema import (
    drives,
    quota_reservations,
    quotas,
)
from sluice_backends.sql.usage import (
    OF_DRIVE,
    OF_TENANT,
    TENANT_ROW,
    change_step,
    make_reconciliation_due,
    unsent_of,
    usage_of,
)
from sluice_core.access.audit import AuditEntry
from sluice_core.errors import ResourceExhausted
from sluice_core.ports.catalogue import NodeCommit
from sluice_core.ports.quotas import (
    QUOTA_EXCEEDED,
    Quota,
    QuotaReservation,
    Usage,
)

_LIMITS = ("max_bytes", "max_nodes", "max_open_uploads")
_OF_UPLOAD = and_(
    quota_reservations.c.upload_id == bindparam("p_upload"),
    quota_reservations.c.drive_id == OF_DRIVE,
)


_QUOTA = select(quotas).where(quotas.c.tenant == OF_TENANT, quotas.c.drive_id == OF_DRIVE)
_LIMITS_OF = select(quotas).where(
    quotas.c.tenant == OF_TENANT, quotas.c.drive_id.in_((literal(TENANT_ROW), OF_DRIVE))
)
# In the order of the primary key, so that two transactions cannot wait for each other.
_LOCK_QUOTAS = _LIMITS_OF.order_by(quotas.c.drive_id).with_for_update()
_LOCK_QUOTA = _QUOTA.with_for_update()
_CHANGE_QUOTA = (
    update(quotas)
    .where(quotas.c.tenant == OF_TENANT, quotas.c.drive_id == OF_DRIVE)
    .values({name: bindparam(f"p_{name}") for name in _LIMITS})
)
_DROP_QUOTA = delete(quotas).where(quotas.c.tenant == OF_TENANT, quotas.c.drive_id == OF_DRIVE)
_RESERVED = select(quota_reservations).where(_OF_UPLOAD)
_LOCK_RESERVED = _RESERVED.with_for_update()
_GROW = (
    update(quota_reservations)
    .where(_OF_UPLOAD)
    .values(bytes=bindparam("p_bytes"), checked_at=bindparam("p_now"))
)
_DROP_RESERVATION = delete(quota_reservations).where(_OF_UPLOAD)
_DROP_RESERVATIONS = delete(quota_reservations).where(
    quota_reservations.c.upload_id == bindparam("p_upload"),
    quota_reservations.c.tenant == OF_TENANT,
)
# By drive: MariaDB uses no index for a list of pairs.
_OF_UPLOADS = and_(
    quota_reservations.c.upload_id.in_(bindparam("p_uploads", expanding=True)),
    quota_reservations.c.drive_id == OF_DRIVE,
)
_CHECKED = update(quota_reservations).where(_OF_UPLOADS).values(checked_at=bindparam("p_checked"))
_SHRINK = _GROW.where(quota_reservations.c.bytes > bindparam("p_bytes"))
_DROP_ALL = delete(quota_reservations).where(_OF_UPLOADS)
_UNCHECKED = (
    select(quota_reservations, drives.c.name.label("drive"))
    .join(drives, drives.c.drive_id == quota_reservations.c.drive_id)
    .where(quota_reservations.c.checked_at < bindparam("p_since"))
    .order_by(quota_reservations.c.checked_at, quota_reservations.c.upload_id)
    .limit(bindparam("p_limit"))
    .offset(bindparam("p_offset"))
)


class SqlQuotas(SqlFamily):
    """The catalogue's family of quotas."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """One reservation of a tenant at a time: the others would only wait for its row locks,
        each with one of the connections that all tenants share."""

    @transaction
    async def set_quota(
        self,
        connection: AsyncConnection,
        tenant: str,
        drive: str,
        quota: Quota,
        *,
        audit: AuditEntry | None = None,
    ) -> None:
        # Shared: the drive is not deleted meanwhile.
        drive_id = await _drive_id(connection, tenant, drive, share=True)
        key = {"p_tenant": tenant, "p_drive_id": drive_id}
        # A concurrent call may insert the row, too. Without limits it is no quota.
        await connection.execute(
            self._db.dialect.insert_or_lock(quotas),
            {"tenant": tenant, "drive_id": drive_id, **dict.fromkeys(_LIMITS, 0)},
        )
        before = _quota_of((await connection.execute(_LOCK_QUOTA, key)).one())
        if quota == Quota():
            await connection.execute(_DROP_QUOTA, key)
        else:
            limits = {f"p_{name}": getattr(quota, name) for name in _LIMITS}
            await connection.execute(_CHANGE_QUOTA, {**key, **limits})
        if quota == before:
            return
        if before == Quota():
            # An older release may have changed nodes without counting them.
            await make_reconciliation_due(connection, tenant, drive_id)
        await append_entries(self._db, connection, audit)

    async def get_quota(self, tenant: str, drive: str) -> tuple[Quota, Usage]:
        async with self._db.read() as connection:
            drive_id = await _drive_id(connection, tenant, drive)
            key = {"p_tenant": tenant, "p_drive_id": drive_id}
            row = (await connection.execute(_QUOTA, key)).one_or_none()
            usage = await usage_of(connection, tenant, drive_id)
        return Quota() if row is None else _quota_of(row), usage

    async def check_room(
        self, tenant: str, drive: str, size: int, node_count: int, *, job_id: str = ""
    ) -> None:
        async with self._db.read() as connection:
            drive_id = await _drive_id(connection, tenant, drive)
            key = {"p_tenant": tenant, "p_drive_id": drive_id}
            growth = _Growth(size, node_count)
            for row in (await connection.execute(_LIMITS_OF, key)).all():
                of_drive = "" if row.drive_id == TENANT_ROW else drive
                awaited = _Growth(*await unsent_of(connection, tenant, of_drive, job_id))
                await _check_room(connection, tenant, [row], growth, awaited)

    async def reserve(self, tenant: str, drive: str, upload_id: str, size: int) -> bool:
        turn = self._turns.setdefault(tenant, asyncio.Lock())
        async with self._db.deadline(), turn:
            return await self._reserve(tenant, drive, upload_id, size)

    @transaction
    async def _reserve(
        self, connection: AsyncConnection, tenant: str, drive: str, upload_id: str, size: int
    ) -> bool:
        drive_id = await _drive_id(connection, tenant, drive)
        limits = await _lock_quotas(connection, tenant, drive_id)
        if not limits:
            return False
        key = {"p_upload": upload_id, "p_drive_id": drive_id}
        held = (await connection.execute(_RESERVED, key)).one_or_none()
        if held is not None and held.bytes >= size:
            return True
        now = await self._db.now(connection)
        if held is not None:
            await _check_room(connection, tenant, limits, _Growth(size - held.bytes))
            await connection.execute(_GROW, {**key, "p_bytes": size, "p_now": now})
            return True
        await _check_room(connection, tenant, limits, _Growth(size, nodes=1, open_uploads=1))
        await connection.execute(
            insert(quota_reservations),
            {
                "upload_id": upload_id,
                "tenant": tenant,
                "drive_id": drive_id,
                "bytes": size,
                "checked_at": now,
            },
        )
        return True

    @transaction
    async def release(
        self, connection: AsyncConnection, tenant: str, upload_id: str, drive: str = ""
    ) -> None:
        if drive:
            await drop_reservation(
                connection, upload_id, await _drive_id(connection, tenant, drive)
            )
            return
        await connection.execute(_DROP_RESERVATIONS, {"p_upload": upload_id, "p_tenant": tenant})

    async def reservations_unchecked(
        self, since: float, limit: int, offset: int = 0
    ) -> Sequence[QuotaReservation]:
        parameters = {"p_since": since, "p_limit": limit, "p_offset": offset}
        async with self._db.read() as connection:
            rows = (await connection.execute(_UNCHECKED, parameters)).all()
        return [
            QuotaReservation(
                row.upload_id, row.tenant, row.drive, row.drive_id, row.bytes, row.checked_at
            )
            for row in rows
        ]

    @transaction
    async def reservations_checked(
        self,
        connection: AsyncConnection,
        reservations: Sequence[QuotaReservation],
        delay_seconds: float,
    ) -> None:
        checked_at = await self._db.now(connection) + delay_seconds
        for drive_id, uploads in _by_drive(reservations):
            key = {"p_drive_id": drive_id, "p_uploads": uploads}
            await connection.execute(_CHECKED, {**key, "p_checked": checked_at})

    @transaction
    async def drop_reservations(
        self, connection: AsyncConnection, reservations: Sequence[QuotaReservation]
    ) -> None:
        for drive_id, uploads in _by_drive(reservations):
            await connection.execute(_DROP_ALL, {"p_drive_id": drive_id, "p_uploads": uploads})

    @transaction
    async def shrink_reservation(
        self, connection: AsyncConnection, reservation: QuotaReservation, size: int
    ) -> None:
        await connection.execute(
            _SHRINK,
            {
                "p_upload": reservation.upload_id,
                "p_drive_id": reservation.drive_id,
                "p_bytes": size,
                "p_now": await self._db.now(connection),
            },
        )


@dataclass(frozen=True, slots=True)
class _Growth:
    """What a transaction adds to usage or reservations."""

    bytes: int
    nodes: int = 0
    open_uploads: int = 0


def commit_steps(commit: NodeCommit, drive_id: int) -> tuple[Step, Step]:
    """Return `record_commit` as batch steps."""
    return (
        change_step(commit.tenant, drive_id, commit.size, 1),
        Step(_DROP_RESERVATION, {"p_upload": commit.upload_id, "p_drive_id": drive_id}),
    )


async def record_commit(connection: AsyncConnection, commit: NodeCommit, drive_id: int) -> None:
    """Turn the reservation of an upload into usage, in the transaction that creates its node."""
    for step in commit_steps(commit, drive_id):
        await connection.execute(step.statement, dict(step.values))


async def drop_reservation(connection: AsyncConnection, upload_id: str, drive_id: int) -> None:
    await connection.execute(_DROP_RESERVATION, {"p_upload": upload_id, "p_drive_id": drive_id})


async def drop_quota(connection: AsyncConnection, tenant: str, drive_id: int) -> None:
    await connection.execute(_DROP_QUOTA, {"p_tenant": tenant, "p_drive_id": drive_id})


async def check_commit(
    connection: AsyncConnection, commit: NodeCommit, drive_id: int, replaced_bytes: int | None
) -> None:
    """Check that the node of an upload fits, in the transaction that creates it.

    It does where the reservation covers it. Otherwise, for an upload that began before the quota or
    whose bytes came by several intakes, the rest must fit now.

    Args:
        replaced_bytes: size of the node that the commit replaces, None without one.

    Raise `ResourceExhausted` QUOTA_EXCEEDED.
    """
    limits = await _lock_quotas(connection, commit.tenant, drive_id)
    if not limits:
        return
    key = {"p_upload": commit.upload_id, "p_drive_id": drive_id}
    held = (await connection.execute(_LOCK_RESERVED, key)).one_or_none()
    if held is not None and held.bytes >= commit.size:
        return
    covered = 0 if held is None else held.bytes
    new_nodes = int(held is None and replaced_bytes is None)
    growth = _Growth(commit.size - covered - (replaced_bytes or 0), new_nodes)
    await _check_room(connection, commit.tenant, limits, growth)


async def _lock_quotas(
    connection: AsyncConnection, tenant: str, drive_id: int
) -> Sequence[Row[Any]]:
    key = {"p_tenant": tenant, "p_drive_id": drive_id}
    return (await connection.execute(_LOCK_QUOTAS, key)).all()


async def _check_room(
    connection: AsyncConnection,
    tenant: str,
    limits: Iterable[Row[Any]],
    growth: _Growth,
    awaited: _Growth | None = None,
) -> None:
    """Check the limits. With their rows locked, of concurrent calls each sees the former ones.

    Args:
        awaited: what is reserved besides the uploads.
    """
    awaited = awaited or _Growth(0)
    for row in limits:
        quota = _quota_of(row)
        usage = await usage_of(connection, tenant, row.drive_id)
        scope = "tenant" if row.drive_id == TENANT_ROW else "drive"
        kinds = (
            (
                "bytes",
                quota.max_bytes,
                usage.bytes,
                usage.reserved_bytes + awaited.bytes,
                growth.bytes,
            ),
            (
                "nodes",
                quota.max_nodes,
                usage.nodes,
                usage.open_uploads + awaited.nodes,
                growth.nodes,
            ),
            ("open_uploads", quota.max_open_uploads, 0, usage.open_uploads, growth.open_uploads),
        )
        for kind, limit, used, reserved, requested in kinds:
            if limit and requested > 0 and used + reserved + requested > limit:
                raise ResourceExhausted(
                    QUOTA_EXCEEDED,
                    f"The quota of the {scope} is {limit} {_UNITS[kind]}; {used} are used and"
                    f" {reserved} reserved by open uploads, so {requested} more do not fit. Delete"
                    " nodes, or ask an administrator for a larger quota.",
                    metadata={
                        "scope": scope,
                        "kind": kind,
                        "limit": str(limit),
                        "used": str(used),
                        "reserved": str(reserved),
                        "requested": str(requested),
                    },
                )


_UNITS = {"bytes": "bytes", "nodes": "nodes", "open_uploads": "open uploads"}


async def _drive_id(
    connection: AsyncConnection, tenant: str, drive: str, *, share: bool = False
) -> int:
    """Return the row id of a drive, `TENANT_ROW` for an empty name."""
    if not drive:
        return TENANT_ROW
    return int((await find_drive(connection, tenant, drive, share=share)).drive_id)


def _by_drive(reservations: Iterable[QuotaReservation]) -> Iterable[tuple[int, list[str]]]:
    """Return the upload ids of each drive, in the order of the drives."""
    uploads: dict[int, list[str]] = {}
    for one in reservations:
        uploads.setdefault(one.drive_id, []).append(one.upload_id)
    return ((drive_id, sorted(uploads[drive_id])) for drive_id in sorted(uploads))


def _quota_of(row: Row[Any]) -> Quota:
    return Quota(row.max_bytes, row.max_nodes, row.max_open_uploads)
