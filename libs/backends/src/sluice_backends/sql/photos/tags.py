"""Tags in SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import bindparam, delete, exists, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sluice_backends.sql.database import SqlFamily, transaction
from sluice_backends.sql.photos.work import PhotoWork, lock_photos
from sluice_backends.sql.schema import photo_tags, tags
from sluice_core.errors import FailedPrecondition
from sluice_core.events.photos import photo_tags_changed
from sluice_core.photos.model import Owner, Photo
from sluice_core.photos.names import MAX_TAGS_OF_PHOTO
from sluice_core.ports.tags import TagCount, TagPage

_OF_PHOTOS = (
    select(photo_tags.c.photo_id, tags.c.tag_id, tags.c.label)
    .join(tags, tags.c.tag_id == photo_tags.c.tag_id)
    .where(photo_tags.c.photo_id.in_(bindparam("p_photos", expanding=True)))
    .order_by(tags.c.label)
)
_FIND = select(tags.c.tag_id).where(
    tags.c.tenant == bindparam("p_tenant"),
    tags.c.user_id == bindparam("p_user"),
    tags.c.label == bindparam("p_label"),
)
_LOCK = select(tags.c.tag_id).where(tags.c.tag_id == bindparam("p_tag")).with_for_update()
_ADD = insert(photo_tags)
_REMOVE = delete(photo_tags).where(
    photo_tags.c.photo_id == bindparam("p_photo"), photo_tags.c.tag_id == bindparam("p_tag")
)
_DROP_UNUSED = delete(tags).where(
    tags.c.tag_id == bindparam("p_tag"), ~exists().where(photo_tags.c.tag_id == bindparam("p_tag"))
)
_COUNTS = (
    select(tags.c.label, func.count().label("photos"))
    .join(photo_tags, photo_tags.c.tag_id == tags.c.tag_id)
    .where(
        tags.c.tenant == bindparam("p_tenant"),
        tags.c.user_id == bindparam("p_user"),
        tags.c.label > bindparam("p_after"),
    )
    .group_by(tags.c.tag_id, tags.c.label)
    .order_by(tags.c.label)
    .limit(bindparam("p_limit"))
)


class SqlTags(SqlFamily):
    """The catalogue's family of tags."""

    @transaction
    async def add_tags(
        self, connection: AsyncConnection, owner: Owner, photo_id: str, labels: Collection[str]
    ) -> Sequence[str]:
        work = await lock_photos(self._db, connection, [photo_id])
        photo = work.owned(owner, photo_id)
        known = await _tags_of_photo(connection, photo_id)
        new = sorted(set(labels) - set(known))
        every = sorted({*known, *new})
        if not new:
            return every
        if len(every) > MAX_TAGS_OF_PHOTO:
            raise FailedPrecondition(
                "TOO_MANY_TAGS",
                f"A photo has at most {MAX_TAGS_OF_PHOTO} tags; remove some first.",
                field="tags",
            )
        # In the order of the labels, so that transactions of one owner do not deadlock.
        for label in new:
            tag_id = await self._lock_tag(connection, owner, label, work.now)
            await connection.execute(_ADD, {"photo_id": photo_id, "tag_id": tag_id})
        await _write(work, photo, every)
        return every

    @transaction
    async def remove_tags(
        self, connection: AsyncConnection, owner: Owner, photo_id: str, labels: Collection[str]
    ) -> Sequence[str]:
        work = await lock_photos(self._db, connection, [photo_id])
        photo = work.owned(owner, photo_id)
        known = await _tags_of_photo(connection, photo_id)
        gone = {label: known[label] for label in sorted(known) if label in set(labels)}
        rest = sorted(known.keys() - gone.keys())
        if gone:
            await _remove(connection, photo_id, gone)
            await _write(work, photo, rest)
        return rest

    async def tags_of(self, photo_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        if not photo_ids:
            return {}
        labels: defaultdict[str, list[str]] = defaultdict(list)
        async with self._db.read() as connection:
            for row in await connection.execute(_OF_PHOTOS, {"p_photos": list(photo_ids)}):
                labels[row.photo_id].append(row.label)
        return dict(labels)

    async def list_tags(self, owner: Owner, limit: int, after: str = "") -> TagPage:
        parameters = {**_owner(owner), "p_after": after, "p_limit": limit + 1}
        async with self._db.read() as connection:
            rows = (await connection.execute(_COUNTS, parameters)).all()
        page = tuple(TagCount(row.label, row.photos) for row in rows[:limit])
        return TagPage(page, page[-1].label if len(rows) > limit else "")

    async def _lock_tag(
        self, connection: AsyncConnection, owner: Owner, label: str, now: float
    ) -> int:
        """Insert or lock the owner's tag; return its id."""
        row = {
            "tenant": owner.tenant,
            "user_id": owner.user_id,
            "label": label,
            "created_at": now,
        }
        await connection.execute(self._db.dialect.insert_or_lock(tags), row)
        parameters = {**_owner(owner), "p_label": label}
        tag_id: int = (await connection.execute(_FIND, parameters)).scalar_one()
        return tag_id


async def drop_tags(connection: AsyncConnection, photo_id: str) -> None:
    """Remove all tags of a photo whose job is locked."""
    await _remove(connection, photo_id, await _tags_of_photo(connection, photo_id))


async def _write(work: PhotoWork, photo: Photo, labels: Sequence[str]) -> None:
    tagged = replace(photo, version=photo.version + 1, updated_at=work.now)
    work.touch(tagged, photo_tags_changed(tagged, labels))
    await work.write()


async def _tags_of_photo(connection: AsyncConnection, photo_id: str) -> dict[str, int]:
    """Return the ids of the photo's tags by label, in the order of the labels."""
    rows = (await connection.execute(_OF_PHOTOS, {"p_photos": [photo_id]})).all()
    return {row.label: row.tag_id for row in rows}


async def _remove(connection: AsyncConnection, photo_id: str, tag_ids: Mapping[str, int]) -> None:
    """Remove tags from a photo, and those that no photo has any more."""
    # The lock of a tag excludes its next use, which would miss the row that is dropped here.
    for tag_id in tag_ids.values():
        await connection.execute(_LOCK, {"p_tag": tag_id})
        await connection.execute(_REMOVE, {"p_photo": photo_id, "p_tag": tag_id})
        await connection.execute(_DROP_UNUSED, {"p_tag": tag_id})


def _owner(owner: Owner) -> dict[str, str]:
    return {"p_tenant": owner.tenant, "p_user": owner.user_id}
