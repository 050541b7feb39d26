"""The audit log in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import Database, SqlFamily, transaction
from sluice_backends.sql.schema import audit_log
from sluice_core.access.audit import (
    MAX_OBJECT_CHARACTERS,
    MAX_OUTCOME_CHARACTERS,
    MAX_PEER_CHARACTERS,
    MAX_SUBJECT_CHARACTERS,
    AuditEntry,
)
from sluice_core.ports.audit import AuditCursor, AuditFilter, AuditPage

_APPEND = insert(audit_log)
_LIST = (
    select(audit_log)
    .where(audit_log.c.tenant == bindparam("p_tenant"))
    .order_by(audit_log.c.occurred_at.desc(), audit_log.c.row_id.desc())
    .limit(bindparam("p_limit"))
)
_BEYOND = or_(
    audit_log.c.occurred_at < bindparam("p_time"),
    and_(
        audit_log.c.occurred_at == bindparam("p_time"), audit_log.c.row_id < bindparam("p_row_id")
    ),
)
_OLDEST = (
    select(audit_log.c.row_id)
    .where(audit_log.c.occurred_at < bindparam("p_before"))
    .order_by(audit_log.c.occurred_at, audit_log.c.row_id)
    .limit(bindparam("p_limit"))
)
_PURGE = delete(audit_log).where(audit_log.c.row_id.in_(bindparam("p_row_ids", expanding=True)))


class SqlAudit(SqlFamily):
    """The catalogue's family of the audit log."""

    async def append_audit(self, entries: Sequence[AuditEntry]) -> None:
        if entries:
            await self._append(entries)

    @transaction
    async def _append(self, connection: AsyncConnection, entries: Sequence[AuditEntry]) -> None:
        await append_entries(self._db, connection, *entries)

    async def list_audit(
        self, tenant: str, limit: int, after: AuditCursor | None, wanted: AuditFilter
    ) -> AuditPage:
        parameters: dict[str, Any] = {"p_tenant": tenant, "p_limit": limit + 1}
        statement = _LIST
        if after is not None:
            statement = statement.where(_BEYOND, audit_log.c.occurred_at <= bindparam("p_time"))
            parameters |= {"p_time": after.occurred_at, "p_row_id": after.row_id}
        if wanted.since is not None:
            statement = statement.where(audit_log.c.occurred_at >= bindparam("p_since"))
            parameters["p_since"] = wanted.since
        if wanted.until is not None:
            statement = statement.where(audit_log.c.occurred_at < bindparam("p_until"))
            parameters["p_until"] = wanted.until
        if wanted.subject:
            statement = statement.where(audit_log.c.subject == bindparam("p_subject"))
            parameters["p_subject"] = wanted.subject
        if wanted.action:
            statement = statement.where(audit_log.c.action == bindparam("p_action"))
            parameters["p_action"] = wanted.action
        async with self._db.read() as connection:
            rows = (await connection.execute(statement, parameters)).all()
        page = rows[:limit]
        has_more = len(rows) > limit
        cursor = AuditCursor(page[-1].occurred_at, page[-1].row_id) if has_more else None
        return AuditPage(tuple(_entry_of(row) for row in page), cursor)

    @transaction
    async def purge_audit(self, connection: AsyncConnection, older_than: float, limit: int) -> int:
        parameters = {"p_before": older_than, "p_limit": limit}
        row_ids = (await connection.execute(_OLDEST, parameters)).scalars().all()
        if not row_ids:
            return 0
        # Another sweeper may have deleted some of them meanwhile.
        return (await connection.execute(_PURGE, {"p_row_ids": list(row_ids)})).rowcount


async def append_entries(
    database: Database, connection: AsyncConnection, *entries: AuditEntry | None
) -> None:
    """Append the entries that are given, in the transaction that makes the change."""
    now = database.clock()
    rows = [_columns_of(entry, now) for entry in entries if entry is not None]
    if rows:
        await connection.execute(_APPEND, rows)


def _columns_of(entry: AuditEntry, now: float) -> dict[str, Any]:
    return {
        "occurred_at": now if entry.occurred_at is None else entry.occurred_at,
        "tenant": entry.tenant,
        "subject": entry.subject[:MAX_SUBJECT_CHARACTERS],
        "action": entry.action,
        "object": entry.object[:MAX_OBJECT_CHARACTERS],
        "outcome": entry.outcome[:MAX_OUTCOME_CHARACTERS],
        "request_id": entry.request_id,
        "peer": entry.peer[:MAX_PEER_CHARACTERS],
        "occurrences": entry.count,
    }


def _entry_of(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        tenant=row.tenant,
        subject=row.subject,
        action=row.action,
        object=row.object,
        outcome=row.outcome,
        request_id=row.request_id,
        peer=row.peer,
        count=row.occurrences,
        occurred_at=row.occurred_at,
    )
