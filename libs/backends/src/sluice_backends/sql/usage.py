"""Usage of drives in SQL: changes, their totals, and the comparison with the nodes (ADR 0024)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    ScalarSelect,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.dialect import Step
from sluice_backends.sql.schema import (
    LIVE,
    drives,
    nodes,
    quota_reservations,
    quotas,
    upload_jobs,
    usage_changes,
    usage_totals,
)
from sluice_core.photos.counts import JobStatus
from sluice_core.photos.strategies import UploadStrategy
from sluice_core.ports.quotas import Usage, UsageDifference

TENANT_ROW = 0
"""Drive id of a tenant's quota; no drive has it."""

OF_DRIVE: ColumnElement[int] = bindparam("p_drive_id", type_=quotas.c.drive_id.type)
OF_TENANT: ColumnElement[str] = bindparam("p_tenant", type_=quotas.c.tenant.type)


def _totals(of_drive: bool) -> Any:
    """Select the usage and the reservations of a drive or tenant in one statement.

    One statement reads one snapshot: a commit that turns a reservation into usage meanwhile is seen
    wholly or not at all.
    """

    def total(column: ColumnElement[Any], table: Any) -> ScalarSelect[Any]:
        scope = table.c.drive_id == OF_DRIVE if of_drive else table.c.tenant == OF_TENANT
        return select(func.coalesce(func.sum(column), 0)).where(scope).scalar_subquery()

    return select(
        (
            total(usage_totals.c.bytes, usage_totals) + total(usage_changes.c.bytes, usage_changes)
        ).label("bytes"),
        (
            total(usage_totals.c.nodes, usage_totals) + total(usage_changes.c.nodes, usage_changes)
        ).label("nodes"),
        total(quota_reservations.c.bytes, quota_reservations).label("reserved_bytes"),
        total(literal(1), quota_reservations).label("open_uploads"),
    )


# Photos that may still be put into the store. Those that go through an intake reserve there.
_UNSENT = select(
    func.coalesce(func.sum(upload_jobs.c.total_bytes - upload_jobs.c.sent_bytes), 0).label("bytes"),
    func.coalesce(func.sum(upload_jobs.c.queued + upload_jobs.c.uploading), 0).label("nodes"),
).where(
    upload_jobs.c.tenant == bindparam("p_tenant"),
    upload_jobs.c.status.in_([JobStatus.QUEUED.value, JobStatus.IN_PROGRESS.value]),
    upload_jobs.c.strategy != UploadStrategy.TUS.value,
    upload_jobs.c.job_id != bindparam("p_job"),
)
_DRIVE_TOTALS = _totals(of_drive=True)
_TENANT_TOTALS = _totals(of_drive=False)
_CHANGE = insert(usage_changes)
_CHANGES = select(usage_changes).order_by(usage_changes.c.change_id).limit(bindparam("p_limit"))
_DROP_CHANGES = delete(usage_changes).where(
    usage_changes.c.change_id.in_(bindparam("p_ids", expanding=True))
)
_TOTAL_ROW = select(usage_totals).where(usage_totals.c.drive_id == OF_DRIVE)
_LOCK_TOTALS = (
    select(usage_totals.c.drive_id)
    .where(usage_totals.c.drive_id.in_(bindparam("p_drive_ids", expanding=True)))
    .order_by(usage_totals.c.drive_id)
    .with_for_update()
)
_ADD = (
    update(usage_totals)
    .where(usage_totals.c.drive_id == OF_DRIVE)
    .values(
        bytes=usage_totals.c.bytes + bindparam("p_bytes"),
        nodes=usage_totals.c.nodes + bindparam("p_nodes"),
    )
)
_LOCK_TOTAL = _TOTAL_ROW.with_for_update()
_CLAIM = (
    update(usage_totals)
    .where(usage_totals.c.drive_id == OF_DRIVE)
    .values(reconciled_at=bindparam("p_now"))
)
_CORRECT = _ADD.where(usage_totals.c.reconciled_at == bindparam("p_claim"))
_DROP_TOTAL = delete(usage_totals).where(usage_totals.c.drive_id == OF_DRIVE)
_DROP_DRIVE_CHANGES = delete(usage_changes).where(usage_changes.c.drive_id == OF_DRIVE)
_MAKE_DUE = update(usage_totals).values(reconciled_at=0.0)
_MAKE_DRIVE_DUE = _MAKE_DUE.where(usage_totals.c.drive_id == OF_DRIVE)
_MAKE_TENANT_DUE = _MAKE_DUE.where(usage_totals.c.tenant == OF_TENANT)
_UNRECONCILED = (
    select(drives.c.drive_id)
    .outerjoin(usage_totals, usage_totals.c.drive_id == drives.c.drive_id)
    .where(
        drives.c.deleted_at.is_(None),
        or_(
            usage_totals.c.reconciled_at.is_(None),
            usage_totals.c.reconciled_at < bindparam("p_since"),
        ),
    )
    .order_by(usage_totals.c.reconciled_at, drives.c.drive_id)
    .limit(bindparam("p_limit"))
    .offset(bindparam("p_offset"))
)
_LIVE_NODES = and_(nodes.c.drive_id == OF_DRIVE, nodes.c.state == literal(LIVE))
_COMPARE = _DRIVE_TOTALS.add_columns(
    select(func.coalesce(func.sum(nodes.c.size), 0))
    .where(_LIVE_NODES)
    .scalar_subquery()
    .label("live_bytes"),
    select(func.count())
    .select_from(nodes)
    .where(_LIVE_NODES)
    .scalar_subquery()
    .label("live_nodes"),
)
_DRIVE_ROW = select(drives.c.tenant, drives.c.name).where(
    drives.c.drive_id == OF_DRIVE, drives.c.deleted_at.is_(None)
)
_TICK_SECONDS = 1e-6
"""Resolution of times in the database."""


class SqlUsage(SqlFamily):
    """The catalogue's family of usage."""

    async def fold_usage(self, limit: int) -> int:
        async with self._db.read() as connection:
            found = (await connection.execute(_CHANGES, {"p_limit": limit})).all()
        return await self._fold(found) if found else 0

    @transaction
    async def _fold(self, connection: AsyncConnection, found: Sequence[Row[Any]]) -> int:
        tenants = {row.drive_id: row.tenant for row in found}
        for drive_id in sorted(tenants):
            await self._ensure_total(connection, drive_id, tenants[drive_id])
        # The locks exclude other folds of these drives. Read again under them: another fold may
        # have deleted some of the changes.
        await connection.execute(_LOCK_TOTALS, {"p_drive_ids": sorted(tenants)})
        ids = [row.change_id for row in found]
        left = await connection.execute(
            select(usage_changes).where(usage_changes.c.change_id.in_(ids))
        )
        changes = left.all()
        if not changes:
            return 0
        for drive_id in sorted({row.drive_id for row in changes}):
            of_drive = [row for row in changes if row.drive_id == drive_id]
            await connection.execute(
                _ADD,
                {
                    "p_drive_id": drive_id,
                    "p_bytes": sum(row.bytes for row in of_drive),
                    "p_nodes": sum(row.nodes for row in of_drive),
                },
            )
        await connection.execute(_DROP_CHANGES, {"p_ids": [row.change_id for row in changes]})
        return len(changes)

    async def drives_unreconciled(self, since: float, limit: int, offset: int = 0) -> Sequence[int]:
        parameters = {"p_since": since, "p_limit": limit, "p_offset": offset}
        async with self._db.read() as connection:
            return list((await connection.execute(_UNRECONCILED, parameters)).scalars())

    async def reconcile_usage(self, drive_id: int) -> UsageDifference | None:
        claimed = await self._claim(drive_id)
        if claimed is None:
            return None
        drive, claim = claimed
        async with self._db.read() as connection:
            # Without a lock, because the sum over a large drive takes long.
            compared = (await connection.execute(_COMPARE, {"p_drive_id": drive_id})).one()
        difference = _difference(compared)
        if difference == (0, 0) or not await self._correct(drive_id, claim, difference):
            return None
        return UsageDifference(drive.tenant, drive.name, *difference)

    @transaction
    async def _claim(
        self, connection: AsyncConnection, drive_id: int
    ) -> tuple[Row[Any], float] | None:
        """Record the reconciliation before it begins; return the drive and the recorded time.

        A drive whose sum fails, or exceeds the time limit, is due again only after the interval. It
        cannot keep the others from their turn.
        """
        key = {"p_drive_id": drive_id}
        drive = (await connection.execute(_DRIVE_ROW, key)).one_or_none()
        if drive is None:
            return None
        await self._ensure_total(connection, drive_id, drive.tenant)
        row = (await connection.execute(_LOCK_TOTAL, key)).one()
        # Unique, because the correction recognizes its own claim by the time.
        claim = max(await self._db.now(connection), row.reconciled_at + _TICK_SECONDS)
        await connection.execute(_CLAIM, {**key, "p_now": claim})
        return drive, claim

    @transaction
    async def _correct(
        self, connection: AsyncConnection, drive_id: int, claim: float, difference: tuple[int, int]
    ) -> bool:
        """Add the difference, unless another reconciliation has begun since.

        Commits, deletions and folds since the comparison do not change the difference.
        """
        corrected = await connection.execute(
            _CORRECT,
            {
                "p_drive_id": drive_id,
                "p_claim": claim,
                "p_bytes": difference[0],
                "p_nodes": difference[1],
            },
        )
        return corrected.rowcount == 1

    async def _ensure_total(self, connection: AsyncConnection, drive_id: int, tenant: str) -> None:
        if (await connection.execute(_TOTAL_ROW, {"p_drive_id": drive_id})).first() is None:
            await self._db.dialect.insert_if_absent(
                connection,
                usage_totals,
                {
                    "drive_id": drive_id,
                    "tenant": tenant,
                    "bytes": 0,
                    "nodes": 0,
                    "reconciled_at": 0.0,
                },
            )


def change_step(tenant: str, drive_id: int, size: int, count: int) -> Step:
    """Return the insertion of a change of usage as a batch step."""
    values = {"tenant": tenant, "drive_id": drive_id, "bytes": size, "nodes": count}
    return Step(_CHANGE, values)


async def record_removals(
    connection: AsyncConnection, removed: Iterable[tuple[str, int, int]]
) -> None:
    """Take nodes off the usage, in the transaction that makes them tombstones.

    Args:
        removed: tenant, row id of the drive, and size in bytes of each node.
    """
    await connection.execute(
        _CHANGE,
        [
            {"tenant": tenant, "drive_id": drive_id, "bytes": -size, "nodes": -1}
            for tenant, drive_id, size in removed
        ],
    )


async def drop_usage(connection: AsyncConnection, drive_id: int) -> None:
    """Delete the usage of a drive without nodes, and with it any counting error."""
    for statement in (_DROP_TOTAL, _DROP_DRIVE_CHANGES):
        await connection.execute(statement, {"p_drive_id": drive_id})


async def make_reconciliation_due(connection: AsyncConnection, tenant: str, drive_id: int) -> None:
    """Make a drive due for reconciliation, or all drives of the tenant for `TENANT_ROW`."""
    if drive_id == TENANT_ROW:
        await connection.execute(_MAKE_TENANT_DUE, {"p_tenant": tenant})
    else:
        await connection.execute(_MAKE_DRIVE_DUE, {"p_drive_id": drive_id})


async def usage_of(connection: AsyncConnection, tenant: str, drive_id: int) -> Usage:
    statement = _TENANT_TOTALS if drive_id == TENANT_ROW else _DRIVE_TOTALS
    key = {"p_tenant": tenant} if drive_id == TENANT_ROW else {"p_drive_id": drive_id}
    row = (await connection.execute(statement, key)).one()
    # MySQL sums to DECIMAL.
    return Usage(int(row.bytes), int(row.nodes), int(row.reserved_bytes), int(row.open_uploads))


async def unsent_of(
    connection: AsyncConnection, tenant: str, drive: str, except_job: str
) -> tuple[int, int]:
    """Return bytes and number of the photos that may still be put into a drive.

    For an empty name into any drive of the tenant.
    """
    statement = _UNSENT.where(upload_jobs.c.drive == drive) if drive else _UNSENT
    row = (await connection.execute(statement, {"p_tenant": tenant, "p_job": except_job})).one()
    # MySQL sums to DECIMAL.
    return int(row.bytes), int(row.nodes)


def _difference(row: Row[Any]) -> tuple[int, int]:
    """Return bytes and nodes that exist beyond those that were counted."""
    return int(row.live_bytes) - int(row.bytes), int(row.live_nodes) - int(row.nodes)
