"""Multipart uploads of photos in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.photos.rows import photo_not_found
from sluice_backends.sql.schema import photos, upload_parts
from sluice_core.photos.states import TAKES_PARTS, PhotoStatus, photo_ended
from sluice_core.ports.photos import UploadPart

# The row of the photo and not its job: parts of one photo do not wait for changes of the others.
# A change of this photo locks the job first and then waits for this row when it writes the photo.
_LOCK = (
    select(photos.c.status, photos.c.attempt, photos.c.multipart_id)
    .where(photos.c.photo_id == bindparam("p_photo"))
    .with_for_update()
)
_SET = (
    update(photos)
    .where(photos.c.photo_id == bindparam("p_photo"))
    .values(multipart_id=bindparam("p_multipart"))
)
_BYTES = (
    select(upload_parts.c.photo_id, func.sum(upload_parts.c.size).label("bytes"))
    .where(upload_parts.c.photo_id.in_(bindparam("p_photos", expanding=True)))
    .group_by(upload_parts.c.photo_id)
)
_DROP = delete(upload_parts).where(
    upload_parts.c.photo_id == bindparam("p_photo"),
    upload_parts.c.part_number.in_(bindparam("p_numbers", expanding=True)),
)
_ADD = insert(upload_parts)


class SqlUploadParts(SqlFamily):
    """The catalogue's family of multipart uploads of photos."""

    @transaction
    async def set_multipart(
        self, connection: AsyncConnection, photo_id: str, attempt: int, multipart_id: str
    ) -> str:
        row = await _lock_open(connection, photo_id, attempt)
        known: str = row["multipart_id"]
        if known:
            return known
        await connection.execute(_SET, {"p_photo": photo_id, "p_multipart": multipart_id})
        return multipart_id

    @transaction
    async def record_upload_parts(
        self,
        connection: AsyncConnection,
        photo_id: str,
        attempt: int,
        parts: Sequence[UploadPart],
    ) -> None:
        await _lock_open(connection, photo_id, attempt)
        if not parts:
            return
        now = self._db.clock()
        by_number = {part.number: part for part in parts}
        await connection.execute(_DROP, {"p_photo": photo_id, "p_numbers": sorted(by_number)})
        rows: list[dict[str, Any]] = [
            {
                "photo_id": photo_id,
                "part_number": number,
                "size": part.size,
                "etag": part.etag,
                "updated_at": now,
            }
            for number, part in sorted(by_number.items())
        ]
        await connection.execute(_ADD, rows)

    async def recorded_bytes(self, photo_ids: Sequence[str]) -> Mapping[str, int]:
        if not photo_ids:
            return {}
        async with self._db.read() as connection:
            rows = (await connection.execute(_BYTES, {"p_photos": list(photo_ids)})).all()
        # MySQL sums to DECIMAL.
        return {row.photo_id: int(row.bytes) for row in rows}


async def _lock_open(connection: AsyncConnection, photo_id: str, attempt: int) -> RowMapping:
    """Lock the photo; raise an error unless it takes parts of this attempt."""
    row = (await connection.execute(_LOCK, {"p_photo": photo_id})).mappings().one_or_none()
    if row is None:
        raise photo_not_found()
    status = PhotoStatus(row["status"])
    if status not in TAKES_PARTS or row["attempt"] != attempt:
        raise photo_ended(status)
    return row
