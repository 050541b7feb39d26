"""Keys of repeatable requests in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, bindparam, delete, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.schema import idempotency_keys
from sluice_core.photos.ids import new_operation_id
from sluice_core.photos.model import Owner
from sluice_core.ports.idempotency import MAX_ANSWER_BYTES, ClaimState, RequestClaim

_KEY = and_(
    idempotency_keys.c.tenant == bindparam("p_tenant"),
    idempotency_keys.c.user_id == bindparam("p_user"),
    idempotency_keys.c.idempotency_key == bindparam("p_key"),
)
_GET = select(idempotency_keys).where(_KEY)
_CHANGE = update(idempotency_keys).where(_KEY)
_OPERATION = idempotency_keys.c.operation_id == bindparam("p_operation")
_UNANSWERED = idempotency_keys.c.answer.is_(None)
_ANSWER = _CHANGE.where(_OPERATION, _UNANSWERED).values(answer=bindparam("p_answer"))
_RELEASE = _CHANGE.where(_OPERATION, _UNANSWERED).values(claimed_until=literal(0))
_ANSWERED = select(idempotency_keys.c.answer).where(_KEY, _OPERATION)
_EXPIRED = (
    select(
        idempotency_keys.c.tenant,
        idempotency_keys.c.user_id,
        idempotency_keys.c.idempotency_key,
    )
    .where(idempotency_keys.c.expires_at <= bindparam("p_now"))
    .order_by(idempotency_keys.c.expires_at)
    .limit(bindparam("p_limit"))
)
# Checked again: the key may have begun a new life meanwhile.
_DROP = delete(idempotency_keys).where(_KEY, idempotency_keys.c.expires_at <= bindparam("p_now"))


class SqlIdempotency(SqlFamily):
    """The catalogue's family of repeatable requests."""

    @transaction
    async def claim_request(
        self,
        connection: AsyncConnection,
        owner: Owner,
        key: str,
        fingerprint: bytes,
        *,
        lease_seconds: float,
        lifetime_seconds: float,
    ) -> RequestClaim:
        now = await self._db.now(connection)
        fresh: dict[str, Any] = {
            "fingerprint": fingerprint,
            "operation_id": new_operation_id(),
            "claimed_until": now + lease_seconds,
            "answer": None,
            "created_at": now,
            "expires_at": now + lifetime_seconds,
        }
        identity = {"tenant": owner.tenant, "user_id": owner.user_id, "idempotency_key": key}
        await connection.execute(
            self._db.dialect.insert_or_lock(idempotency_keys), {**identity, **fresh}
        )
        row = (await connection.execute(_GET, _key(owner, key))).one()
        if row.operation_id == fresh["operation_id"]:
            return RequestClaim(ClaimState.CLAIMED, row.operation_id)
        if row.expires_at <= now:
            await connection.execute(_CHANGE, {**_key(owner, key), **fresh})
            return RequestClaim(ClaimState.CLAIMED, fresh["operation_id"])
        if row.fingerprint != fingerprint:
            return RequestClaim(ClaimState.CONFLICT)
        if row.answer is not None:
            return RequestClaim(ClaimState.ANSWERED, row.operation_id, row.answer)
        if row.claimed_until > now:
            return RequestClaim(ClaimState.IN_PROGRESS, row.operation_id)
        extended = {"claimed_until": now + lease_seconds}
        await connection.execute(_CHANGE, {**_key(owner, key), **extended})
        return RequestClaim(ClaimState.CLAIMED, row.operation_id)

    async def finish_request(
        self, owner: Owner, key: str, operation_id: str, answer: bytes
    ) -> bytes:
        if len(answer) > MAX_ANSWER_BYTES:
            raise ValueError(f"an answer has at most {MAX_ANSWER_BYTES} bytes")
        return await self._finish(owner, key, operation_id, answer)

    @transaction
    async def _finish(
        self,
        connection: AsyncConnection,
        owner: Owner,
        key: str,
        operation_id: str,
        answer: bytes,
    ) -> bytes:
        operation = {**_key(owner, key), "p_operation": operation_id}
        changed = await connection.execute(_ANSWER, {**operation, "p_answer": answer})
        if changed.rowcount:
            return answer
        kept: bytes | None = (await connection.execute(_ANSWERED, operation)).scalar_one_or_none()
        return answer if kept is None else kept

    @transaction
    async def release_request(
        self, connection: AsyncConnection, owner: Owner, key: str, operation_id: str
    ) -> None:
        await connection.execute(_RELEASE, {**_key(owner, key), "p_operation": operation_id})

    @transaction
    async def purge_requests(self, connection: AsyncConnection, limit: int) -> int:
        now = await self._db.now(connection)
        rows = (await connection.execute(_EXPIRED, {"p_now": now, "p_limit": limit})).all()
        dropped = 0
        for row in rows:
            identity = _key(Owner(row.tenant, row.user_id), row.idempotency_key)
            dropped += (await connection.execute(_DROP, {**identity, "p_now": now})).rowcount
        return dropped


def _key(owner: Owner, key: str) -> dict[str, Any]:
    return {"p_tenant": owner.tenant, "p_user": owner.user_id, "p_key": key}
